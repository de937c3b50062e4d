"""The handover from a supervisor to the next one, perhaps of another version.

The next one is started by the same command line (fork and exec). It inherits every listening socket, so that no client
finds the door closed, and a sealed memfd, whose number is in the environment, that holds the Handover. The two may be
of different versions: hence JSON with a format number, and a board of its own for each. The next one answers over a
pipe: READY as soon as all of its workers carry traffic, or why it does not; an end without an answer means that it
died.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.board import WORKERS
from gateway.config.address import Listen
from gateway.process.child import Place
from gateway.supervisor.launcher import Launcher
from gateway.supervisor.sockets import Group, Opened, Sockets
from gateway.supervisor.unix_socket import FileId, file_of

VARIABLE: Final = "GATEWAY_UPGRADE"
"""In the environment: the descriptor of the handover."""
FORMAT: Final = 2
READY: Final = "ready\n"
TIMEOUT: Final = 15.0
"""Seconds that a successor has until all of its workers carry traffic."""
SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
MAX_ANSWER: Final = 65536


class BadHandover(Exception):
    """The handover cannot be used; the text says why."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class HandedSocket(_Part):
    """A bound socket: the address it was opened for, its descriptor, and the number of the process that has it.

    A Unix socket has a `path`, and neither host nor port.
    """

    host: str
    port: int
    fd: Annotated[int, Field(ge=0)]
    kind: Literal["stream", "datagram"]
    number: Annotated[int, Field(ge=0, lt=WORKERS)] = 0
    path: str = ""

    @classmethod
    def of(cls, opened: Opened) -> "HandedSocket":
        """A socket of this process."""
        listen, sock = opened.place
        kind: Literal["stream", "datagram"] = "stream" if sock.type == socket.SOCK_STREAM else "datagram"
        return cls(
            host=listen.host, port=listen.port, path=listen.path, fd=sock.fileno(), kind=kind, number=opened.number
        )

    def open(self) -> Place:
        """Return the socket, if it is of the kind described. Raises BadHandover."""
        listen = Listen(self.host, self.port, self.path)
        problem = BadHandover(f"descriptor {self.fd} is not a socket on {listen}")
        try:
            sock = socket.socket(fileno=self.fd)
        except OSError:
            raise problem from None
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        stream = self.kind == "stream"
        right = sock.type == (socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) and listens == stream
        unix = sock.family == socket.AF_UNIX
        if not right or (sock.getsockname() if unix else sock.getsockname()[:2]) != (
            self.path if unix else (self.host, self.port)
        ):
            sock.close()
            raise problem
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        sock.set_inheritable(False)
        return listen, sock


class HandedServer(_Part):
    """A server's state on the old board; `endpoint` tells whether it is still the same server."""

    backend: str
    server: str
    endpoint: str
    state: Annotated[int, Field(ge=0, le=255)]
    admin: Annotated[int, Field(ge=0, le=255)]
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class HandedCounters(_Part):
    """The boards on which the old gateway and the one before it count, and whose each row of the first one is."""

    layout: str
    """Of the boards, see gateway/board.pyx; one of another layout cannot be read."""
    board: Annotated[int, Field(ge=0)]
    elder: Annotated[int, Field(ge=0)] | None
    """The descriptors of the two."""
    servers: tuple[tuple[str, str, Annotated[int, Field(ge=0)]], ...]
    """Backend, server, row."""
    traffic: tuple[tuple[str, str, Annotated[int, Field(ge=0)]], ...]
    """Frontend, backend, class or share; its name; row."""
    events: dict[str, dict[str, Annotated[int, Field(ge=0)]]] = {}
    """What the supervisor has counted, see gateway.process.supervisor_status."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those of the boards."""
        return (self.board,) if self.elder is None else (self.board, self.elder)


class Handover(_Part):
    """Everything that a supervisor hands over; keys that a newer version adds are ignored."""

    format: Literal[2]
    sockets: dict[str, dict[str, tuple[HandedSocket, ...]]]
    """By role and name."""
    servers: tuple[HandedServer, ...]
    sessions: Annotated[int, Field(ge=0)] | None = None
    """The memory of gateway.supervisor.session_memory."""
    counters: HandedCounters | None = None
    """None: by a version that hands none over."""
    answer: Annotated[int, Field(ge=0)]
    """The writing end of the pipe to the old supervisor."""


@dataclass(frozen=True, slots=True)
class Received:
    """A handover on the side of the next supervisor, its descriptors open."""

    sockets: Sockets
    servers: tuple[HandedServer, ...]
    files: dict[str, FileId]
    """Of Unix sockets, by their paths: the predecessor's until the successor carries all traffic."""
    sessions: int | None
    """The descriptor of the memory with its sessions."""
    counters: HandedCounters | None
    predecessor: "Predecessor"


class Predecessor:
    """The successor's end of the pipe. It may have exited by now."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)  # noqa: FBT003 - the os module's own signature
        self._fd = fd

    def ready(self) -> None:
        """All workers carry traffic: the predecessor may release everything."""
        self._say(READY)

    def failed(self, why: str) -> None:
        """The takeover failed: the predecessor goes on."""
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


def receive(environment: MutableMapping[str, str]) -> Received | None:
    """Take over what `environment` names, which no longer names it then; None at an ordinary start.

    Raises BadHandover.
    """
    number = environment.pop(VARIABLE, None)
    if number is None:
        return None
    try:
        fd = int(number)
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS:
            raise BadHandover(f"{VARIABLE}={number} is not sealed")
        handover = Handover.model_validate_json(os.pread(fd, os.fstat(fd).st_size, 0))
        os.close(fd)
        predecessor = Predecessor(handover.answer)
        boards = handover.counters.descriptors if handover.counters is not None else ()
        for kept in (*boards, *([handover.sessions] if handover.sessions is not None else [])):
            os.set_inheritable(kept, False)  # noqa: FBT003 - the os module's own signature
    except (OSError, ValueError, ValidationError) as error:
        raise BadHandover(f"{VARIABLE}={number} cannot be used: {error}") from None
    groups: dict[str, dict[str, Group]] = {}
    try:
        for role, names in handover.sockets.items():
            for name, handed in names.items():
                group = groups.setdefault(role, {}).setdefault(name, {})
                for each in handed:
                    group.setdefault(each.number, []).append(each.open())
                if len({frozenset(listen for listen, _ in places) for places in group.values()}) > 1:
                    raise BadHandover(f"the {name} sockets of {role} processes are not on the same addresses")
    except BadHandover as error:
        predecessor.failed(str(error))
        for opened in Sockets(groups):
            opened.place[1].close()
        raise
    sockets = Sockets(groups)
    paths = {opened.place[0].path for opened in sockets}
    files = {path: file for path in paths if path and (file := file_of(path)) is not None}
    return Received(sockets, handover.servers, files, handover.sessions, handover.counters, predecessor)


@dataclass(slots=True)
class Successor:
    """The new supervisor as the old one sees it: its process and the pipe on which it answers."""

    launcher: Launcher
    """Its parent until it carries traffic, which ends as it does."""
    pipe: int
    deadline: float
    """time.monotonic(): by when it has to answer, and after that, to end."""
    failed: bool = False
    _answer: bytes = field(default=b"")

    @property
    def pid(self) -> int:
        """The process id of the new supervisor."""
        return self.launcher.launched

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
    servers: Iterable[HandedServer],
    sessions: int,
    counters: HandedCounters | None = None,
) -> Successor:
    """Run `command` with everything that it needs to take over. sessions: a descriptor. Raises OSError."""
    handed: dict[str, dict[str, list[HandedSocket]]] = {}
    for opened in sockets:
        handed.setdefault(opened.role, {}).setdefault(opened.name, []).append(HandedSocket.of(opened))
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    memory = os.memfd_create("gateway-handover", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    boards = counters.descriptors if counters is not None else ()
    passed = [memory, writing, sessions, *boards, *(opened.place[1].fileno() for opened in sockets)]
    try:
        handover = Handover(
            format=FORMAT,
            sockets={role: {name: tuple(each) for name, each in names.items()} for role, names in handed.items()},
            servers=tuple(servers),
            sessions=sessions,
            counters=counters,
            answer=writing,
        )
        with os.fdopen(os.dup(memory), "wb") as file:
            file.write(handover.model_dump_json().encode())
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
        # Nothing else is started meanwhile: this process has one thread.
        for fd in passed:
            os.set_inheritable(fd, True)  # noqa: FBT003 - the os module's own signature
        launcher = Launcher(command, {**os.environ, VARIABLE: str(memory)})
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(memory)
        os.close(writing)
        for fd in passed[2:]:
            os.set_inheritable(fd, False)  # noqa: FBT003 - the os module's own signature
    return Successor(launcher, reading, time.monotonic() + TIMEOUT)
