"""Drops privileges of the agent after its start: it holds a key, and accepts connections."""

import ctypes
import os
import resource
from typing import Final

_SET_DUMPABLE: Final = 4  # PR_SET_DUMPABLE, prctl(2)
_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS


def harden(*, core_dumps: bool) -> None:
    """Prevent the process from gaining privileges, and other processes of the same user and core dumps from reading its
    memory.

    `core_dumps` leaves the memory readable. Raises OSError.
    """
    _prctl(_NO_NEW_PRIVILEGES, 1)
    if not core_dumps:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        _prctl(_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    rest = [ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3]
    if ctypes.CDLL(None, use_errno=True).prctl(option, *rest):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
