"""A new binary takes over from a running gateway: what the old supervisor leaves to its successor, and how they agree.

The successor is started by the same command line (fork and exec). It inherits every listening socket, so that no
client finds the door closed, and a sealed memfd, whose number is in the environment, that holds the Estate. The two
may be of different versions: hence JSON with a format number, and a board of its own for each. The successor answers
over a pipe: READY as soon as all of its workers carry traffic, or why it does not; an end without a word means that
it died.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.board import WORKERS
from gateway.config.address import Listen
from gateway.supervisor.sockets import ADMIN, HINTS, Place, Sockets
from gateway.supervisor.unix_socket import FileId, file_of

VARIABLE: Final = "GATEWAY_UPGRADE"
"""In the environment: the descriptor of the estate."""
READY: Final = "ready\n"
OF_CONTROL: Final = ("reports", "sites", HINTS, ADMIN)
"""Control's sockets, as the Estate names them."""
TIMEOUT: Final = 15.0
"""Seconds that a successor has until all of its workers carry traffic."""
SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
MAX_ANSWER: Final = 65536


class BadEstate(Exception):
    """What was inherited cannot be used; the text says why."""


class _Left(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class LeftSocket(_Left):
    """A bound socket: the address it was opened for and its descriptor; `worker` for those that clients connect to.

    A Unix socket has a `path`, and neither host nor port.
    """

    host: str
    port: int
    fd: Annotated[int, Field(ge=0)]
    worker: Annotated[int, Field(ge=0, lt=WORKERS)] = 0
    path: str = ""

    @classmethod
    def of(cls, listen: Listen, sock: socket.socket, worker: int = 0) -> "LeftSocket":
        """A socket that was opened for `listen`."""
        return cls(host=listen.host, port=listen.port, path=listen.path, fd=sock.fileno(), worker=worker)

    def open(self, kind: socket.SocketKind) -> Place:
        """Return the socket, if it is what it is said to be. Raises BadEstate."""
        listen = Listen(self.host, self.port, self.path)
        problem = BadEstate(f"descriptor {self.fd} is not a socket on {listen}")
        try:
            sock = socket.socket(fileno=self.fd)
        except OSError:
            raise problem from None
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        right = sock.type == kind and listens == (kind == socket.SOCK_STREAM)
        unix = sock.family == socket.AF_UNIX
        if not right or (sock.getsockname() if unix else sock.getsockname()[:2]) != (
            self.path if unix else (self.host, self.port)
        ):
            sock.close()
            raise problem
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        sock.set_inheritable(False)
        return listen, sock


class LeftServer(_Left):
    """What the old board says about a server; `endpoint` tells whether it is still the same one."""

    backend: str
    server: str
    endpoint: str
    state: Annotated[int, Field(ge=0, le=255)]
    admin: Annotated[int, Field(ge=0, le=255)]
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Estate(_Left):
    """Everything that a supervisor leaves; keys that a newer version adds are ignored."""

    format: Literal[1]
    listeners: tuple[LeftSocket, ...]
    reports: LeftSocket | None
    sites: LeftSocket | None = None
    hints: LeftSocket | None = None
    admin: LeftSocket | None = None
    servers: tuple[LeftServer, ...]
    answer: Annotated[int, Field(ge=0)]
    """The writing end of the pipe to the old supervisor."""


@dataclass(frozen=True, slots=True)
class Heritage:
    """An estate on the successor's side, its descriptors open; `workers` has each worker's sockets."""

    workers: dict[int, list[Place]]
    control: dict[str, Place]
    servers: tuple[LeftServer, ...]
    files: dict[str, FileId]
    """Of Unix sockets, by their paths: the predecessor's until it lets go."""
    predecessor: "Predecessor"


class Predecessor:
    """The successor's end of the pipe. It may be gone by now: then nobody needs to be told."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)  # noqa: FBT003 - the os module's own signature
        self._fd = fd

    def ready(self) -> None:
        """All workers carry traffic: let go."""
        self._say(READY)

    def failed(self, why: str) -> None:
        """It did not work out: go on."""
        self._say(why)

    def close(self) -> None:
        """Close the pipe; a fork's copy would hide that its owner died."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _say(self, text: str) -> None:
        with suppress(OSError):
            os.write(self._fd, text.encode()[:MAX_ANSWER])
        self.close()


def inherit(environment: MutableMapping[str, str]) -> Heritage | None:
    """Take over what `environment` names, which no longer names it then; None at an ordinary start.

    Raises BadEstate.
    """
    number = environment.pop(VARIABLE, None)
    if number is None:
        return None
    try:
        fd = int(number)
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS:
            raise BadEstate(f"{VARIABLE}={number} is not sealed")
        estate = Estate.model_validate_json(os.pread(fd, os.fstat(fd).st_size, 0))
        os.close(fd)
        predecessor = Predecessor(estate.answer)
    except (OSError, ValueError, ValidationError) as error:
        raise BadEstate(f"{VARIABLE}={number} cannot be used: {error}") from None
    workers: dict[int, list[Place]] = {}
    try:
        for left in estate.listeners:
            workers.setdefault(left.worker, []).append(left.open(socket.SOCK_STREAM))
        if len({frozenset(listen for listen, _ in places) for places in workers.values()}) > 1:
            raise BadEstate("the workers' sockets are not on the same addresses")
        control = {
            name: left.open(socket.SOCK_STREAM if name == ADMIN else socket.SOCK_DGRAM)
            for name in OF_CONTROL
            if (left := getattr(estate, name)) is not None
        }
    except BadEstate as error:
        predecessor.failed(str(error))
        for _, sock in chain.from_iterable(workers.values()):
            sock.close()
        raise
    paths = {listen.path for listen, _ in chain.from_iterable(workers.values()) if listen.path}
    files = {path: file for path in paths if (file := file_of(path)) is not None}
    return Heritage(workers, control, estate.servers, files, predecessor)


@dataclass(slots=True)
class Successor:
    """The new supervisor as the old one sees it: its process and the pipe on which it answers."""

    pid: int
    pipe: int
    deadline: float
    """time.monotonic(): by when it has to answer, and after that, to end."""
    failed: bool = False
    _answer: bytes = field(default=b"")

    def fileno(self) -> int:
        """The pipe, for a selector; -1 once closed."""
        return self.pipe

    def hear(self) -> str | None:
        """Return READY, why it failed ("" if it died without a word), or None as long as it has not said enough."""
        while self._answer != READY.encode():
            try:
                piece = os.read(self.pipe, MAX_ANSWER)
            except BlockingIOError:
                return None
            if not piece:
                return self._answer.decode(errors="replace").strip()
            self._answer = (self._answer + piece)[:MAX_ANSWER]
        return READY

    def close(self) -> None:
        """Close the pipe."""
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1


def start(
    command: list[str],
    sockets: Sockets,
    servers: Iterable[LeftServer],
) -> Successor:
    """Run `command` with everything that it needs to take over. Raises OSError."""
    listeners = tuple(
        LeftSocket.of(listen, sock, number) for number, places in sockets.workers.items() for listen, sock in places
    )
    control = {name: LeftSocket.of(listen, sock) for name, (listen, sock) in sockets.control.items()}
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    memory = os.memfd_create("gateway-estate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    passed = [memory, writing, *(left.fd for left in (*listeners, *control.values()))]
    try:
        left = {name: control.get(name) for name in OF_CONTROL}
        estate = Estate(format=1, listeners=listeners, **left, servers=tuple(servers), answer=writing)
        with os.fdopen(os.dup(memory), "wb") as file:
            file.write(estate.model_dump_json().encode())
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
        # Nothing else is started meanwhile: this process has one thread.
        for fd in passed:
            os.set_inheritable(fd, True)  # noqa: FBT003 - the os module's own signature
        pid = os.posix_spawn(command[0], command, {**os.environ, VARIABLE: str(memory)})
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(memory)
        os.close(writing)
        for fd in passed[2:]:
            os.set_inheritable(fd, False)  # noqa: FBT003 - the os module's own signature
    return Successor(pid, reading, time.monotonic() + TIMEOUT)
