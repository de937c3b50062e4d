"""A Unix socket for its owner alone, as `gateway status` and `gateway explain --live` use it."""

import errno
import os
import socket
import stat
import struct
import time
from pathlib import Path
from typing import Final

from gateway.system.socket_probe import Use, use

LONGEST_ANSWER: Final = 64 * 1024 * 1024
"""Bytes."""
_CREDENTIALS: Final = struct.Struct("=3i")


def listen(path: Path, backlog: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Listen at `path`; a file there is replaced. Raises OSError."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def listen_alone(path: Path, backlog: int, *, takes_over: bool) -> socket.socket:
    """Listen at `path`, unless another process does. Raises OSError.

    `takes_over`: the process that currently listens there is about to end.
    """
    if not takes_over and use(path) is Use.IN_USE:
        raise FileExistsError("it belongs to another running gateway")
    return listen(path, backlog)


def accept(listening: socket.socket) -> socket.socket | None:
    """The next client, non-blocking; None if it has disconnected."""
    try:
        client, _ = listening.accept()
    except OSError:
        return None
    client.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    return client


def _owners(directory: Path) -> set[int]:
    """The users who may listen in a directory."""
    trusted = {0, os.geteuid()}
    inner, outer = directory.stat(), directory.parent.stat()
    if outer.st_uid == 0 and not (inner.st_mode | outer.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        trusted.add(inner.st_uid)  # a service of its own account, in its RuntimeDirectory= (systemd.exec(5))
    return trusted


def _parent(pid: int) -> int | None:
    """The parent of a process; None if that is hidden."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:")), None)


def user_of(sock: socket.socket) -> int:
    """The account at the other end, as the kernel has it from connect(2) or listen(2) (SO_PEERCRED of unix(7))."""
    return int(_CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1])


def connect(path: Path, seconds: float, parent: int | None = None) -> socket.socket:
    """A connection to `path` whose operations may take so many seconds.

    With `parent`, a process that is no child of that one is not queried: it belongs to another gateway.

    Only root, this user and the owner of the directory are trusted, the last one if others can write neither there nor
    above: elsewhere another program could listen at the path. Raises OSError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(str(path))
        pid, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if user not in _owners(path.parent):
            raise PermissionError(errno.EACCES, f"a process of user {user} listens there, which is no gateway's")
        if parent is not None and _parent(pid) not in (None, parent):
            raise PermissionError(errno.EACCES, "another gateway listens there: each needs its own admin.sockets")
    except BaseException:
        sock.close()
        raise
    return sock


def ask(path: Path, question: bytes, seconds: float, parent: int | None = None) -> tuple[bytes, list[int]]:
    """The answer at `path`, until the other end closes, and the descriptor that came with it, if any.

    `parent` and errors: see `connect`.
    """
    end = time.monotonic() + seconds
    descriptors: list[int] = []
    try:
        with connect(path, seconds, parent) as sock:
            sock.sendall(question)
            answer = bytearray()
            while True:
                sock.settimeout(max(0.001, end - time.monotonic()))
                part, received, _, _ = socket.recv_fds(sock, 1 << 16, 1)
                descriptors += received
                if not part:
                    return bytes(answer), descriptors
                answer += part
                if len(answer) > LONGEST_ANSWER or len(descriptors) > 1:
                    raise OSError(errno.EMSGSIZE, "its answer is too long")
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
