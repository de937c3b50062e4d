"""Listening Unix sockets at paths that clients know: made and removed without touching files of other programs.

A bind never replaces the file of a closed socket, so `listen` removes what a killed process has left.
"""

import os
import socket
import stat
from pathlib import Path
from typing import Final

from gateway.system.socket_probe import Use, use

FileId = tuple[int, int]
"""A file by its device and inode. While its socket is open, no other file can have the same."""

_TYPE: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class Occupied(Exception):
    """The path cannot be used; the text says why."""


def listen(path: str, mode: int, backlog: int) -> socket.socket:
    """Listen at `path`, non-blocking, with permissions `mode` from its first moment on.

    A socket at which nothing listens any more is replaced. Raises Occupied, OSError.
    """
    _make_room(path)
    sock = socket.socket(socket.AF_UNIX, _TYPE)
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    sock.listen(backlog)
    return sock


def _make_room(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Occupied("there is a file that is no socket; it is left alone")
    found_use = use(path)
    if found_use is Use.FORBIDDEN:
        raise Occupied("there is a socket, and finding out whether it is in use is not allowed")
    if found_use is Use.IN_USE:
        raise Occupied("another process is using it (see `ss -lxp`)")
    remove(path, (found.st_dev, found.st_ino))


def file_of(path: str) -> FileId | None:
    """The socket at `path`, or None if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def remove(path: str, file: FileId) -> None:
    """Remove `path` if it still is that file. Raises OSError."""
    if file_of(path) == file:
        Path(path).unlink(missing_ok=True)


def change_mode(path: str, file: FileId, mode: int) -> None:
    """Give `path` the permissions `mode` if it still is that file. Raises OSError."""
    # By descriptor: a user with write permission for the directory could replace the path by a link.
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == file and stat.S_IMODE(found.st_mode) != mode:
            Path(f"/proc/self/fd/{fd}").chmod(mode)
    finally:
        os.close(fd)
