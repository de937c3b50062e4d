"""The priority of the heartbeat, and a thread without any right; roles of processes: gateway/hardening/roles.py."""

import contextlib
import ctypes
import os
from typing import Final

from gateway.hardening import kernel

_ALL_PAGES: Final = 1 | 4  # MCL_CURRENT | MCL_ONFAULT: what is there; the board is large, and mostly never touched
_PRIORITY: Final = 10


def renounce() -> None:
    """Give up every right, in this thread only. Raises OSError."""
    kernel.set_capabilities(())
    kernel.forbid_new_privileges()


def hurry() -> None:
    """Go before others, as far as that is allowed: a beat that waits for the processor is a false alarm."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -19)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    ctypes.CDLL(None).mlockall(_ALL_PAGES)
