"""The system calls of hardening that Python does not offer. Each raises OSError."""

import ctypes
import os
import resource
import signal
import struct
from typing import Final

_SET_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG
_SET_DUMPABLE: Final = 4  # PR_SET_DUMPABLE
_KEEP_CAPABILITIES: Final = 8  # PR_SET_KEEPCAPS
_SET_NAME: Final = 15  # PR_SET_NAME
_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS
_VERSION_3: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, capabilities(7)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Call the kernel: integers as they are, bytes by address, None as NULL."""
    plain = [item if isinstance(item, bytes) else ctypes.c_long(item or 0) for item in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *plain))
    if result < 0:
        raise _failure()
    return result


def set_name(name: str) -> None:
    """Name this thread as top and ps show it; of a process, its first one. At most 15 bytes are kept."""
    _prctl(_SET_NAME, ctypes.c_char_p(name.encode()))


def end_with_parent() -> None:
    """Let this process be killed when its parent ends. A change of the user undoes it (prctl(2))."""
    _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def keep_capabilities() -> None:
    """Let the capabilities that are permitted survive the next setuid(2)."""
    _prctl(_KEEP_CAPABILITIES, 1)


def set_capabilities(numbers: tuple[int, ...]) -> None:
    """Leave this thread these capabilities, permitted and effective; none are inheritable."""
    wanted = sum(1 << number for number in numbers)
    low, high = wanted & 0xFFFFFFFF, wanted >> 32
    header = struct.pack("=Ii", _VERSION_3, 0)
    _check(_libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)))


def capabilities() -> frozenset[int]:
    """The numbers of the capabilities that this thread has, effective."""
    header, data = struct.pack("=Ii", _VERSION_3, 0), ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data))
    low, _, _, high, _, _ = struct.unpack("=6I", data.raw)
    return frozenset(number for number in range(64) if (high << 32 | low) >> number & 1)


def forbid_new_privileges() -> None:
    """Let no program that this process or its children run gain rights by set-user-ID bits or file capabilities."""
    _prctl(_NO_NEW_PRIVILEGES, 1)


def hide_memory() -> None:
    """Keep the memory out of core dumps and from other processes of the same user (PR_SET_DUMPABLE in prctl(2)).

    Programs that this process runs may have core dumps again, as far as they raise the soft limit.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _prctl(_SET_DUMPABLE, 0)


def show_memory() -> None:
    """Undo what changing the user has done: allow core dumps and debuggers of the same user."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    _prctl(_SET_DUMPABLE, 1)


def _prctl(option: int, value: "int | ctypes.c_char_p") -> None:
    argument = ctypes.c_ulong(value) if isinstance(value, int) else value
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, argument, zero, zero, zero))


def _check(result: int) -> None:
    if result:
        raise _failure()


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
