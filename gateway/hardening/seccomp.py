"""Filters of system calls (seccomp(2), mode filter): written as classic BPF, checked by the kernel at every call.

A call that the filter does not name fails with EPERM, and the kernel's audit log has it (type=1326 with the process id,
the name of the process, and the number of the call). Calls that only an intruder makes (KILLED) end the process with
SIGSYS. A call that is newer than this table fails with ENOSYS, so that the C library goes back to an older one.

The plain calls come first, in the order of their frequency, and do not look at arguments: since Linux 5.11 the kernel
knows their verdict in advance and does not run the filter for them.
"""

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from typing import Final

from gateway.hardening import kernel
from gateway.hardening.syscalls import LAST, NUMBERS

MACHINES: Final = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}
"""Column of NUMBERS, AUDIT_ARCH_* of linux/audit.h, and the number of seccomp(2)."""

_PLAIN = """
recvfrom sendto read write epoll_wait epoll_pwait readv writev recvmsg sendmsg accept4 accept epoll_ctl close splice
shutdown connect getsockopt setsockopt getsockname getpeername clock_gettime futex sendfile recvmmsg sendmmsg
epoll_create1 epoll_pwait2 eventfd2 pipe pipe2 poll ppoll select pselect6 brk munmap mremap madvise mincore membarrier
mlock munlock msync rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait rt_sigpending rt_sigsuspend sigaltstack
restart_syscall clock_getres clock_nanosleep nanosleep gettimeofday time timer_create timer_settime timer_gettime
timer_delete timerfd_create timerfd_settime timerfd_gettime setitimer getitimer lseek pread64 preadv preadv2 pwrite64
pwritev fsync fdatasync fstat stat lstat newfstatat statx fstatfs statfs access faccessat faccessat2 readlink
readlinkat getdents64 getcwd dup dup2 dup3 fadvise64 close_range umask getpid getppid gettid getuid geteuid
getgid getegid getresuid getresgid getgroups getpgrp getpgid getsid uname sysinfo getrlimit getrusage times getcpu
getpriority sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max
sched_get_priority_min rseq set_robust_list get_robust_list set_tid_address arch_prctl exit exit_group wait4 waitid
getrandom futex_waitv landlock_create_ruleset landlock_add_rule landlock_restrict_self
"""
PLAIN: Final = tuple(_PLAIN.split())
"""What every process may do with what it has: its memory, its threads, its descriptors, time, and to give up
more of it."""

_KILLED = """
execve execveat ptrace process_vm_writev bpf perf_event_open userfaultfd mount umount2 move_mount open_tree fsopen
fsmount fsconfig pivot_root chroot init_module finit_module delete_module kexec_load kexec_file_load unshare setns
keyctl add_key request_key reboot swapon swapoff iopl ioperm modify_ldt open_by_handle_at pidfd_getfd
"""
KILLED: Final = tuple(_KILLED.split())
"""No code of the gateway and no rule that is merely wrong makes these: Python's subprocess fails at fork before."""

_ALLOW: Final = 0x7FFF0000
_EPERM: Final = 0x00050001
_ENOSYS: Final = 0x00050026
_KILL: Final = 0x80000000  # SECCOMP_RET_KILL_PROCESS

_SET_MODE_FILTER: Final = 1
_ACTION_AVAILABLE: Final = 2  # SECCOMP_GET_ACTION_AVAIL, Linux 4.14
_FLAGS: Final = 1 | 4  # TSYNC (all threads), SPEC_ALLOW (no slower branches: there is no foreign code beside it)
_LOG: Final = 2  # SECCOMP_FILTER_FLAG_LOG
_IN_MEMORY: Final = ("clone3", "openat2")
"""Calls whose arguments are in memory, where a filter cannot look; there are older ones for all that is needed."""

_NUMBER: Final = 0  # offsets in struct seccomp_data
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16
_X32: Final = 0x40000000  # the second set of calls of x86_64

_IOCTLS: Final = (0x5401, 0x5411, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A)
"""TCGETS, TIOCOUTQ, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, TCGETS2."""
_PRCTLS: Final = (1, 3, 15, 16, 21, 23, 39, 0x53564D41)
"""PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS,
PR_SET_VMA."""
_WRITING: Final = 0x1 | 0x2 | 0x40 | 0x200 | 0x400000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE
_BINDING: Final = ("bind", "listen")
_MEMORY: Final = ("memfd_create", "ftruncate")
_CHANGING: Final = ("rename", "renameat", "renameat2", "unlink", "unlinkat", "flock")
_SET_STATUS_FLAGS: Final = 4  # F_SETFL: without O_APPEND, what is in the access log could be overwritten
_NOT_APPENDING: Final = 0x20  # RWF_NOAPPEND, Linux 6.9: as above, for one write
_WRITE_AND_EXECUTE: Final = 0x2 | 0x4  # PROT_WRITE, PROT_EXEC
_THREAD: Final = 0x10000  # CLONE_THREAD
_UNIX: Final = 1
_NEW_USERS: Final = 0x10000000  # CLONE_NEWUSER
_SET_IDS: Final = {
    **dict.fromkeys(("setuid", "setgid", "setfsuid", "setfsgid"), 1),
    **dict.fromkeys(("setreuid", "setregid"), 2),
    **dict.fromkeys(("setresuid", "setresgid"), 3),
}
"""Calls that change users and groups, by how many of their arguments are ids."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a process may do beyond PLAIN. `sockets`: pairs of family and type that it may make. `binds`: to addresses.
    `memory`: it may make files that are in memory only, and set their length. `writes`: it may write, rename and remove
    files; which ones, its account and Landlock decide.

    It may read files, append to those that are open for that, map memory that is not both writable and executable,
    make threads, and signal itself.
    """

    sockets: frozenset[tuple[int, int]]
    binds: bool = False
    memory: bool = False
    writes: bool = False
    ioctls: tuple[int, ...] = ()
    """Requests of ioctl(2) beyond those for any descriptor."""


class Unavailable(Exception):
    """The kernel has no such filters, or lets this process set none; the text says why."""


class _Program:
    """Instructions of classic BPF: code, jump if true, jump if false, value (struct sock_filter)."""

    def __init__(self, column: int) -> None:
        self._column = column
        self.code: list[tuple[int, int, int, int]] = []

    def load(self, offset: int) -> None:
        self.code.append((0x20, 0, 0, offset))  # LD W ABS

    def mask(self, value: int) -> None:
        self.code.append((0x54, 0, 0, value))  # ALU AND K

    def end(self, verdict: int) -> None:
        self.code.append((0x06, 0, 0, verdict))  # RET K

    def unless_equal(self, value: int, verdict: int) -> None:
        self.code.append((0x15, 1, 0, value))
        self.end(verdict)

    def if_equal(self, value: int, verdict: int) -> None:
        self.code.append((0x15, 0, 1, value))  # JMP JEQ K
        self.end(verdict)

    def if_any_bit(self, value: int, verdict: int) -> None:
        self.code.append((0x45, 0, 1, value))  # JMP JSET K, any bit
        self.end(verdict)

    def if_greater(self, value: int, verdict: int) -> None:
        self.code.append((0x25, 0, 1, value))  # JMP JGT K
        self.end(verdict)

    def call(self, name: str, verdict: int) -> None:
        """Decide about a call by its number."""
        number = NUMBERS[name][self._column]
        if number is not None:
            self.if_equal(number, verdict)

    def block(self, value: int | None, body: "_Program") -> None:
        """If the loaded word is `value`, go through `body`, which ends with a verdict."""
        if value is not None:
            self.code.append((0x15, 0, len(body.code), value))
            self.code += body.code

    def argument(self, name: str, index: int, body: "_Program") -> None:
        """Decide about a call by the lower half of an argument: all those that we look at are ints to the kernel."""
        inner = _Program(self._column)
        inner.load(_ARGUMENTS + 8 * index)  # both machines are little-endian
        inner.code += body.code
        self.block(NUMBERS[name][self._column], inner)

    def one_of(self, values: tuple[int, ...]) -> "_Program":
        """Allow these values only."""
        for value in values:
            self.if_equal(value, _ALLOW)
        self.end(_EPERM)
        return self

    def but(self, value: int) -> "_Program":
        """Allow all values but this one."""
        self.if_equal(value, _EPERM)
        self.end(_ALLOW)
        return self

    def none_of(self, bits: int) -> "_Program":
        """Refuse every value that has one of these bits."""
        self.if_any_bit(bits, _EPERM)
        self.end(_ALLOW)
        return self

    def not_all_of(self, bits: int) -> "_Program":
        """Refuse a value that has all of these bits."""
        self.mask(bits)
        self.if_equal(bits, _EPERM)
        self.end(_ALLOW)
        return self

    def some_of(self, bits: int) -> "_Program":
        """Allow a value that has one of these bits."""
        self.if_any_bit(bits, _ALLOW)
        self.end(_EPERM)
        return self

    def packed(self) -> bytes:
        return b"".join(struct.pack("=HBBI", *step) for step in self.code)


def program(wanted: Filter, machine: str, pid: int) -> bytes:
    """Return the filter of process `pid`: an array of struct sock_filter. Raises KeyError for an unknown machine."""
    column, architecture, _ = MACHINES[machine]

    def fresh() -> _Program:
        return _Program(column)

    whole = fresh()
    whole.load(_ARCHITECTURE)
    whole.unless_equal(architecture, _KILL)
    whole.load(_NUMBER)
    if machine == "x86_64":
        whole.if_any_bit(_X32, _KILL)
    for name in PLAIN:
        whole.call(name, _ALLOW)
    for name in _BINDING * wanted.binds + _MEMORY * wanted.memory + _CHANGING * wanted.writes:
        whole.call(name, _ALLOW)
    for name, place in (("open", 1), ("openat", 2)):
        whole.argument(name, place, fresh().none_of(0 if wanted.writes else _WRITING))
    for name in ("mmap", "mprotect", "pkey_mprotect"):
        whole.argument(name, 2, fresh().not_all_of(_WRITE_AND_EXECUTE))
    whole.argument("fcntl", 1, fresh().but(_SET_STATUS_FLAGS))
    whole.argument("pwritev2", 5, fresh().none_of(_NOT_APPENDING))
    whole.argument("clone", 0, fresh().some_of(_THREAD))
    whole.argument("socket", 0, _sockets(wanted.sockets, column))
    whole.argument("socketpair", 0, fresh().one_of((_UNIX,)))
    whole.argument("ioctl", 1, fresh().one_of((*_IOCTLS, *wanted.ioctls)))
    whole.argument("prctl", 0, fresh().one_of(_PRCTLS))
    for name in ("kill", "tgkill"):
        whole.argument(name, 0, fresh().one_of((pid,)))
    whole.argument("prlimit64", 2, _null(column))
    for name in KILLED:
        whole.call(name, _KILL)
    for name in _IN_MEMORY:
        whole.call(name, _ALLOW)  # `unknown` decides
    whole.if_greater(LAST, _ALLOW)
    whole.end(_EPERM)
    return whole.packed()


def unknown(machine: str) -> bytes:
    """Return a filter for calls that the C library can do without: ENOSYS, and no line in the audit log each time."""
    column, architecture, _ = MACHINES[machine]
    whole = _Program(column)
    whole.load(_ARCHITECTURE)
    whole.unless_equal(architecture, _KILL)
    whole.load(_NUMBER)
    for name in _IN_MEMORY:
        whole.call(name, _ENOSYS)
    whole.if_greater(LAST, _ENOSYS)
    whole.end(_ALLOW)
    return whole.packed()


def never_root(machine: str) -> bytes:
    """Return a filter under which a process that may change its user becomes any but root (0), nor of root's group.

    A namespace of users of its own, in which it could be root of this one (user_namespaces(7)), is refused as well.
    """
    column, architecture, _ = MACHINES[machine]
    whole = _Program(column)
    whole.load(_ARCHITECTURE)
    whole.unless_equal(architecture, _EPERM)
    whole.load(_NUMBER)
    if machine == "x86_64":
        whole.if_any_bit(_X32, _EPERM)
    for name, count in _SET_IDS.items():
        body = _Program(column)
        for index in range(count):
            body.load(_ARGUMENTS + 8 * index)
            body.if_equal(0, _EPERM)
        body.end(_ALLOW)
        whole.block(NUMBERS[name][column], body)
    whole.argument("clone", 0, _Program(column).none_of(_NEW_USERS))
    whole.call("unshare", _EPERM)
    whole.call("setns", _EPERM)
    whole.call("clone3", _ENOSYS)
    whole.end(_ALLOW)
    return whole.packed()


def _sockets(pairs: frozenset[tuple[int, int]], column: int) -> _Program:
    """Decide about socket(2) by its family, then by its type without SOCK_NONBLOCK and SOCK_CLOEXEC."""
    program = _Program(column)
    for family in sorted({family for family, _ in pairs}):
        kinds = _Program(column)
        kinds.load(_ARGUMENTS + 8)
        kinds.mask(0xF)
        kinds.one_of(tuple(sorted(kind for of, kind in pairs if of == family)))
        program.block(family, kinds)
    program.end(_EPERM)
    return program


def _null(column: int) -> _Program:
    """The third argument is a pointer: allow NULL only. Its lower half is loaded."""
    program = _Program(column)
    upper = _Program(column)
    upper.load(_ARGUMENTS + 8 * 2 + 4)
    program.block(0, upper.one_of((0,)))
    program.end(_EPERM)
    return program


def available(machine: str = platform.machine()) -> str:
    """Return why filters cannot be set here, or an empty text."""
    if machine not in MACHINES:
        return f"there is no filter for {machine}"
    try:
        kernel.syscall(MACHINES[machine][2], _ACTION_AVAILABLE, 0, struct.pack("=I", _KILL))
    except OSError as error:
        return f"the kernel does not offer seccomp: {(error.strerror or '').lower()}"
    return ""


def install(wanted: Filter) -> None:
    """Apply a filter to all threads of this process, irrevocably. Needs no_new_privs. Raises Unavailable."""
    machine = _machine()
    # The second one allows what the first one refuses, and would refuse that this is called once more.
    _install(unknown(machine), _FLAGS)
    _install(program(wanted, machine, os.getpid()), _FLAGS | _LOG)


def forbid_root() -> None:
    """Keep this process and its children from becoming root, irrevocably. Needs no_new_privs. Raises Unavailable."""
    _install(never_root(_machine()), _FLAGS | _LOG)


def _machine() -> str:
    machine = platform.machine()
    if why := available(machine):
        raise Unavailable(why)
    return machine


def _install(code: bytes, flags: int) -> None:
    buffer = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    try:
        left = kernel.syscall(MACHINES[platform.machine()][2], _SET_MODE_FILTER, flags, described)
    except OSError as error:
        raise Unavailable(f"the kernel refuses the filter: {(error.strerror or '').lower()}") from None
    if left:
        raise Unavailable(f"thread {left} has another filter")
