"""Rules about files and more that a process sets for itself (landlock(7)): it cannot open what they do not name.

Files that are open already stay usable. The kernel says how much it knows by a number, the ABI; what it does not know
is left out.
"""

import contextlib
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gateway.hardening import kernel

_CREATE_RULESET: Final = 444  # the same on every machine
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1  # LANDLOCK_CREATE_RULESET_VERSION
_BENEATH: Final = 1  # LANDLOCK_RULE_PATH_BENEATH

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIRECTORY: Final = 1 << 3
_REMOVE_FILE: Final = 1 << 5
_MAKE_FILE: Final = 1 << 8
_TRUNCATE: Final = 1 << 14
_FILE_RIGHTS: Final = ((1, 13), (2, 14), (3, 15), (5, 16))
"""ABI, and how many rights it knows: those of 5.13, then REFER, TRUNCATE, IOCTL_DEV."""
_NETWORK: Final = 4
"""The ABI that knows TCP."""
_BIND: Final = 1  # LANDLOCK_ACCESS_NET_BIND_TCP
_SCOPES: Final = 6
"""The ABI that knows what abstract Unix sockets and signals are outside."""
_ALL_SCOPES: Final = 1 | 2  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL


class Unavailable(Exception):
    """The kernel has no such rules, or they are off; the text says why."""


def version() -> int:
    """Return the ABI. Raises Unavailable."""
    try:
        return kernel.syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError as error:
        raise Unavailable(f"the kernel does not offer Landlock: {(error.strerror or '').lower()}") from None


def missing(abi: int) -> list[str]:
    """Return what a kernel of this ABI does not restrict."""
    gaps = ((3, "truncating files"), (_NETWORK, "listening on TCP ports"), (_SCOPES, "signals to other processes"))
    return [what for needed, what in gaps if abi < needed]


def restrict(readable: Iterable[Path], writable: Iterable[Path] = ()) -> None:
    """Let this thread, and those that it makes, open files below `readable` for reading, and nothing else; those in
    `writable` also for writing, and make, rename and remove them.

    It may run no program, listen on no TCP port, and send signals to nothing but itself. Paths that are missing, or
    that it may not reach, are left out. Needs no_new_privs. Raises Unavailable.
    """
    abi = version()
    count = max(count for needed, count in _FILE_RIGHTS if abi >= needed)
    attributes = struct.pack("=Q", (1 << count) - 1)
    if abi >= _NETWORK:
        attributes += struct.pack("=Q", _BIND)
    if abi >= _SCOPES:
        attributes += struct.pack("=Q", _ALL_SCOPES)
    try:
        ruleset = kernel.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    except OSError as error:
        raise Unavailable(f"the kernel cannot create Landlock rules: {(error.strerror or '').lower()}") from None
    try:
        for path in readable:
            _allow(ruleset, path, _READ_FILE)
        for path in writable:
            _allow(ruleset, path, _READ_FILE | _WRITE_FILE | _REMOVE_FILE | _MAKE_FILE | (_TRUNCATE if abi >= 3 else 0))
        kernel.syscall(_RESTRICT_SELF, ruleset, 0)
    except OSError as error:
        raise Unavailable(f"the kernel refuses the Landlock rules: {(error.strerror or '').lower()}") from None
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, wanted: int) -> None:
    with contextlib.suppress(FileNotFoundError, PermissionError, NotADirectoryError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            directory = stat.S_ISDIR(os.fstat(place).st_mode)
            rights = wanted | (_READ_DIRECTORY if directory else 0)
            kernel.syscall(_ADD_RULE, ruleset, _BENEATH, struct.pack("=Qi", rights, place), 0)
        finally:
            os.close(place)
