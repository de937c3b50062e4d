"""Finds out, by connecting, whether a process listens at a Unix socket.

The kernel leaves the file behind when its socket is closed (unix(7)), so a file alone does not say that a process
listens.
"""

import enum
import errno
import os
import socket
from typing import Final


class Use(enum.Enum):
    """What there is at a path."""

    NONE = enum.auto()
    """No file."""
    ABANDONED = enum.auto()
    """The file of a socket that is closed."""
    FORBIDDEN = enum.auto()
    """A socket to which this process may not connect."""
    IN_USE = enum.auto()
    """A process listens, or its socket is of a type without connections."""


_USES: Final = {errno.ENOENT: Use.NONE, errno.ECONNREFUSED: Use.ABANDONED, errno.EACCES: Use.FORBIDDEN}


def use(path: str | os.PathLike[str]) -> Use:
    """Return the use of the socket at `path`. Raises OSError if the path is too long for one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        # 0: connected; EAGAIN: its queue is full; EPROTOTYPE: another type.
        return _USES.get(probe.connect_ex(os.fspath(path)), Use.IN_USE)
