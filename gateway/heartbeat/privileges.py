"""The heartbeat's scheduling priority, and a thread without privileges; roles: gateway/hardening/roles.py."""

import contextlib
import ctypes
import os
from typing import Final

from gateway.hardening import kernel

_ALL_PAGES: Final = 1 | 4  # MCL_CURRENT | MCL_ONFAULT: only resident pages; the board is large, and mostly unused
_PRIORITY: Final = 10


def renounce() -> None:
    """Drop every privilege, in this thread only. Raises OSError."""
    kernel.set_capabilities(())
    kernel.forbid_new_privileges()


def hurry() -> None:
    """Raise the scheduling priority as far as allowed: a beat delayed by a busy processor causes a false alarm."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -19)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    ctypes.CDLL(None).mlockall(_ALL_PAGES)
