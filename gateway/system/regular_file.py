"""Opens regular files by name, safely for root: it never waits, and other users cannot redirect it.

A path may lead to a FIFO by mistake, or to another file because a user with write access to one of its directories
placed a symbolic link there. Reading follows links, since certificates are often behind some. Writing follows no link
that a user other than root could have placed (the rule of openat2's RESOLVE_NO_SYMLINKS, where it matters).
"""

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PIECE: Final = 4096
"""Bytes to read at a time of a file that is larger than it says, as those of proc(5)."""
_MOST_LINKS: Final = 40
"""In one path, as in the kernel (path_resolution(7))."""


def read(path: Path, limit: int) -> tuple[bytes, os.stat_result]:
    """The first `limit` bytes of a regular file, and its status. Raises OSError, also for other kinds of files."""
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        status = os.fstat(descriptor)
        _require_regular(status)
        return _content(descriptor, status.st_size, limit), status
    finally:
        os.close(descriptor)


def _content(descriptor: int, size: int, limit: int) -> bytes:
    """The first `limit` bytes; `size` is what the file should have, so that no buffer is larger than that by much."""
    content = b""
    while len(content) < limit and (more := os.read(descriptor, min(limit - len(content), max(size + 1, _PIECE)))):
        content += more
    return content


def append(path: Path, mode: int) -> int:
    """A descriptor that appends to a regular file, which is made with `mode` if there is none. Raises OSError."""
    directory, name = _directory(path.absolute().parent), path.name
    try:
        _require_plain(name, directory)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | _FLAGS
        descriptor = os.open(name, flags, mode, dir_fd=directory)
        try:
            status = os.fstat(descriptor)
            _require_regular(status)
            if status.st_nlink > 1 and not _is_ours(os.fstat(directory)):
                raise OSError(errno.EMLINK, "it has a second name, and others may have given it this one: remove it")
            os.set_blocking(descriptor, True)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
    finally:
        os.close(directory)


def replace(path: Path, content: bytes, mode: int, *, durable: bool = False) -> None:
    """Replace the file at `path` atomically. Raises OSError.

    `durable`: after a power failure there is either the old file or the new one, whole.
    """
    directory, name = _directory(path.absolute().parent), path.name
    fresh = f".{name}.{secrets.token_hex(8)}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | _FLAGS
        descriptor = os.open(fresh, flags, mode, dir_fd=directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(descriptor)
            os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
            if durable:
                _sync(directory)
        except OSError:
            with suppress(OSError):
                os.unlink(fresh, dir_fd=directory)
            raise
    finally:
        os.close(directory)


def update(path: Path, content: bytes) -> None:
    """Replace the content of a file that is there: its owner and mode stay. Raises OSError."""
    status = path.stat()
    replace(path, content, status.st_mode & 0o777, durable=True)
    if os.geteuid() == 0:
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def _sync(directory: int) -> None:
    """Let the kernel write a directory, open by O_PATH, to the disk. Raises OSError."""
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)


def _directory(path: Path) -> int:
    """A descriptor of a directory, by which files in it can be opened. Raises OSError.

    A symbolic link on the way is followed only in directories that only root and this user can write to.
    """
    left = list(reversed(path.parts[1:]))
    links = 0
    descriptor = _step("/", None)
    try:
        while left:
            name = left.pop()
            if not stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                above, descriptor = descriptor, _step(name, descriptor)
                os.close(above)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, "its path has too many symbolic links")
            if not _is_ours(os.fstat(descriptor)):
                raise OSError(errno.ELOOP, f"{name} is a symbolic link in a directory that others may write to")
            target = Path(os.readlink(name, dir_fd=descriptor))
            left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            if target.is_absolute():
                above, descriptor = descriptor, _step("/", None)
                os.close(above)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _step(name: str, directory: int | None) -> int:
    return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def _is_ours(directory: os.stat_result) -> bool:
    """Whether only root and this process's user can create files there. Without root there is little to gain."""
    others = stat.S_IWOTH | (stat.S_IWGRP if directory.st_gid != 0 else 0)
    return os.geteuid() != 0 or (directory.st_uid == 0 and not directory.st_mode & others)


def _require_plain(name: str, directory: int) -> None:
    """Before anything is opened: to open a device can do something. Raises OSError."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "it is a symbolic link: name the file itself")
    _require_regular(status)


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, "it is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
