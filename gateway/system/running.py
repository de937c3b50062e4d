"""Finds the gateways that run on this machine, each by the operator socket of its supervisor, and sends them commands.

A supervisor listens at `PID.operator` in a directory that commands know. The kernel says which process answers there,
and whose it is (SO_PEERCRED of unix(7)). A file at which nothing listens is what a killed gateway left.
"""

import contextlib
import errno
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.system import plain_json, private_socket, regular_file
from gateway.system.socket_probe import Use, use

SUFFIX: Final = ".operator"
VARIABLE: Final = "GATEWAY_RUN"
"""Environment variable with the directory to use instead of the usual ones."""
TIMEOUT: Final = 5.0
"""Seconds for an answer that is known at once."""
MAX_PID_FILE: Final = 64
"""Bytes."""
_ROOTS: Final = Path("/run/gateway")
_OF_USER: Final = "gateway"


class NotFound(Exception):
    """No running gateway matches, or more than one; the text lists those that run."""


class NoAnswer(Exception):
    """The gateway did not answer, or cannot carry out the command; the text says why."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running gateway, as its supervisor describes itself."""

    socket: Path
    pid: int
    site: Path
    """Its site file, as an absolute path without symbolic links."""
    sockets: Path
    """Directory of the sockets of its other processes (admin.sockets)."""
    node: str
    state: str
    """starting, taking over, running or stopping."""
    owner: int
    """The user id of the supervisor."""

    def __str__(self) -> str:
        return f"process {self.pid} with {self.site}"

    def ask(self, what: str, seconds: float = TIMEOUT) -> dict[str, Any]:
        """Return the answer to `what`, which may take so many seconds. Raises NoAnswer."""
        try:
            return _ask(self.socket, what, seconds)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise NoAnswer(f"the gateway ({self}) does not answer: {reason}") from None


def place() -> Path:
    """Return the directory where a supervisor of this user listens."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    if given := os.environ.get("RUNTIME_DIRECTORY"):  # systemd.exec(5)
        return Path(given.partition(":")[0])
    if os.geteuid() == 0:
        return _ROOTS
    return _place_of_user(os.geteuid())


def _place_of_user(uid: int) -> Path:
    runtime = Path(f"/run/user/{uid}")
    # os.path: ProtectHome= of a unit makes the directory one that may not even be looked for.
    return runtime / _OF_USER if os.path.isdir(runtime) else Path(tempfile.gettempdir()) / f"gateway-{uid}"  # noqa: PTH112


def _places() -> list[Path]:
    """Directories of the gateways that this user may command: its own, and those of services; root sees all."""
    if given := os.environ.get(VARIABLE):
        return [Path(given)]
    found = [_ROOTS, _place_of_user(os.geteuid())]
    if os.geteuid() == 0:
        found += Path("/run/user").glob(f"*/{_OF_USER}")
        found += Path(tempfile.gettempdir()).glob("gateway-*")
    return list(dict.fromkeys(found))


def found() -> list[Running]:
    """Return the running gateways that this user may command, by process id."""
    gateways = {}
    for directory in _places():
        for path in directory.glob(f"*{SUFFIX}"):
            if (gateway := _look(path)) is not None:
                gateways[gateway.pid] = gateway
    return [gateways[pid] for pid in sorted(gateways)]


def _look(path: Path) -> Running | None:
    """Return the gateway that listens at a path; None if there is none, or it is another user's."""
    try:
        said = _ask(path, "about", TIMEOUT)
        sockets, owner = Path(said["sockets"]), path.stat().st_uid
        return Running(path, said["pid"], Path(said["site"]), sockets, said["node"], said["state"], owner)
    except (OSError, KeyError, TypeError):
        return None


def _ask(path: Path, what: str, seconds: float) -> dict[str, Any]:
    answer, descriptors = private_socket.ask(path, what.encode() + b"\n", seconds)
    for descriptor in descriptors:  # none is asked for
        os.close(descriptor)
    try:
        said = plain_json.parse(answer)
    except ValueError:
        raise OSError(errno.EPROTO, "it has ended, or is too busy") from None
    if not isinstance(said, dict):
        raise OSError(errno.EPROTO, "its answer is not that of a gateway")
    return said


def find(target: str | None) -> Running:
    """Return the gateway that `target` means: a process id, a PID file, a site file; None: the only one that runs.

    A site file is not read: it may have mistakes while the gateway runs well. Raises NotFound.
    """
    gateways = found()
    if target is None:
        matching, wanted = gateways, "here that you may ask"
    elif target.isdigit():
        matching, wanted = [gateway for gateway in gateways if gateway.pid == int(target)], f"as process {target}"
    elif (named := _named(Path(target))) is not None:
        pid, owner = named
        # A user with write permission for the file could make root reload another user's gateway.
        matching = [gateway for gateway in gateways if gateway.pid == pid and owner in {0, gateway.owner}]
        wanted = f"as process {pid}, which {target} names"
    else:
        site = Path(os.path.realpath(target))
        matching = [gateway for gateway in gateways if gateway.site == site]
        # During an upgrade there are two, of which the older one only finishes.
        matching = [gateway for gateway in matching if gateway.state == "running"] or matching
        wanted = f"with {target}"
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise NotFound(f"several gateways run {wanted}; name one by its site file or process:{_listed(matching)}")
    raise NotFound(f"no gateway runs {wanted}{f'; these run:{_listed(gateways)}' if gateways else ''}")


def _listed(gateways: list[Running]) -> str:
    return "".join(f"\n  {gateway}" for gateway in gateways)


def _named(path: Path) -> tuple[int, int] | None:
    """Return the process id that a PID file holds, and the file's owner; None if it is no PID file."""
    with contextlib.suppress(OSError):
        content, status = regular_file.read(path, MAX_PID_FILE)
        if re.fullmatch(rb"[0-9]{1,10}", content.strip()):
            return int(content), status.st_uid
    return None


def listen() -> tuple[socket.socket, Path]:
    """Listen as the supervisor that this process is; remove what killed gateways have left. Raises OSError."""
    directory = place()
    mode = 0o755 if directory == _ROOTS else 0o700
    directory.mkdir(mode=mode, parents=True, exist_ok=True)
    if directory.stat().st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EACCES, f"{directory} belongs to another user")
    for path in _abandoned(directory):
        with contextlib.suppress(OSError):
            path.unlink()
    path = directory / f"{os.getpid()}{SUFFIX}"
    return private_socket.listen(path, 8), path


def _abandoned(directory: Path) -> Iterator[Path]:
    """The sockets of a directory at which nothing listens."""
    for path in directory.glob(f"*{SUFFIX}"):
        if use(path) is Use.ABANDONED:
            yield path
