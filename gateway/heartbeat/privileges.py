"""What the heartbeat process may do: the network's addresses and raw frames, and nothing else."""

import contextlib
import ctypes
import os
import struct
from typing import Final

NET_ADMIN: Final = 12
NET_RAW: Final = 13
_KEEP_CAPABILITIES: Final = 8  # PR_SET_KEEPCAPS
_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS
_VERSION_3: Final = 0x20080522  # capabilities(7)
_ALL_PAGES: Final = 1 | 4  # MCL_CURRENT | MCL_ONFAULT: what is there; the board is large, and mostly never touched
_PRIORITY: Final = 10


def keep_only(account: tuple[str, int, int] | None, *capabilities: int) -> None:
    """Become `account` (name, uid, gid) with these capabilities, and never more; None changes nobody.

    Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if account is not None:
        name, uid, gid = account
        _check(libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0))
        os.initgroups(name, gid)
        os.setgid(gid)
        os.setuid(uid)
    wanted = sum(1 << capability for capability in capabilities)
    header = struct.pack("=Ii", _VERSION_3, 0)
    _check(libc.capset(header, struct.pack("=6I", wanted, wanted, 0, 0, 0, 0)))
    _check(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))


def renounce() -> None:
    """Give up every right, in this thread only. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.capset(struct.pack("=Ii", _VERSION_3, 0), bytes(24)))
    _check(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))


def hurry() -> None:
    """Go before others, as far as that is allowed: a beat that waits for the processor is a false alarm."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -19)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    ctypes.CDLL(None).mlockall(_ALL_PAGES)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
