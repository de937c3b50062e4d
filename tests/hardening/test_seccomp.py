"""Filters as programs, for both machines; what they do in a process of the real kernel is in test_confinement.py."""

import ctypes
import fcntl
import mmap
import os
import socket
from collections.abc import Iterator

import pytest

from gateway.hardening import roles
from gateway.hardening.seccomp import KILLED, MACHINES, PLAIN, never_root, program, unknown
from gateway.hardening.syscalls import LAST, NUMBERS
from tests.hardening.bpf import verdict

PID = 4711
assert roles.WORKER.filter is not None
WORKER = roles.WORKER.filter
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
CASES = [
    ("read", (), ALLOW),
    ("openat", (0, 0, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY), ALLOW),
    ("openat", (0, 0, os.O_WRONLY), EPERM),
    ("openat", (0, 0, os.O_RDWR), EPERM),
    ("openat", (0, 0, os.O_CREAT), EPERM),
    ("openat", (0, 0, os.O_TRUNC), EPERM),
    ("openat", (0, 0, os.O_TMPFILE), EPERM),
    ("openat2", (), ENOSYS),
    ("fcntl", (3, fcntl.F_GETFL), ALLOW),
    ("fcntl", (3, fcntl.F_DUPFD_CLOEXEC, 0), ALLOW),
    ("fcntl", (3, fcntl.F_SETFL, os.O_WRONLY), EPERM),
    ("fcntl", (3, fcntl.F_SETFL, os.O_WRONLY | os.O_APPEND), EPERM),
    ("pwritev2", (3, 0, 0, 0, 0, 0), ALLOW),
    ("pwritev2", (3, 0, 0, 0, 0, 0x20), EPERM),  # RWF_NOAPPEND
    ("mmap", (0, 0, mmap.PROT_READ | mmap.PROT_WRITE), ALLOW),
    ("mmap", (0, 0, mmap.PROT_READ | mmap.PROT_EXEC), ALLOW),
    ("mmap", (0, 0, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC), EPERM),
    ("mprotect", (0, 0, mmap.PROT_WRITE | mmap.PROT_EXEC), EPERM),
    ("clone", (0x10000 | 0x100,), ALLOW),
    ("clone", (17,), EPERM),
    ("clone3", (), ENOSYS),
    ("socket", (socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC), ALLOW),
    ("socket", (socket.AF_UNIX, socket.SOCK_STREAM), ALLOW),
    ("socket", (socket.AF_INET, socket.SOCK_DGRAM), ALLOW),  # lines of the access log, to a syslog receiver
    ("socket", (socket.AF_INET, socket.SOCK_RAW), EPERM),
    ("socket", (socket.AF_NETLINK, socket.SOCK_RAW), EPERM),
    ("socket", (socket.AF_PACKET, socket.SOCK_RAW), EPERM),
    ("socket", (socket.AF_VSOCK, socket.SOCK_STREAM), EPERM),
    ("socketpair", (socket.AF_UNIX, socket.SOCK_STREAM), ALLOW),
    ("bind", (), EPERM),
    ("listen", (), EPERM),
    ("ioctl", (0, 0x541B), ALLOW),
    ("ioctl", (0, 0x5412), EPERM),  # TIOCSTI
    ("prctl", (15,), ALLOW),
    ("prctl", (4, 1), EPERM),  # PR_SET_DUMPABLE
    ("prctl", (22,), EPERM),
    ("kill", (PID,), ALLOW),
    ("kill", (PID + 1,), EPERM),
    ("kill", ((1 << 64) - 1,), EPERM),
    ("tgkill", (PID, PID), ALLOW),
    ("tgkill", (1, 1), EPERM),
    ("prlimit64", (0, 7, 0, 1), ALLOW),
    ("prlimit64", (0, 7, 1 << 40, 0), EPERM),
    ("prlimit64", (0, 7, 8, 0), EPERM),
    ("setuid", (0,), EPERM),
    ("capset", (), EPERM),
    ("process_vm_readv", (), EPERM),
]


def decide(machine, number, arguments=(), wanted=WORKER):
    """As the kernel does with two filters: the stricter one counts."""
    architecture = MACHINES[machine][1]
    both = [
        verdict(code, architecture, number, arguments) for code in (unknown(machine), program(wanted, machine, PID))
    ]
    return min(both, key=lambda found: found - (1 << 32) if found & KILL else found)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name, arguments, expected", CASES)
def test_verdict(machine, name, arguments, expected):
    number = NUMBERS[name][MACHINES[machine][0]]
    assert number is not None
    assert decide(machine, number, arguments) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_what_only_intruders_call_ends_the_process_whatever_the_role(machine):
    for role in roles.ROLES:
        if role.filter is None:
            continue
        for name in KILLED:
            number = NUMBERS[name][MACHINES[machine][0]]
            assert number is None or decide(machine, number, (), role.filter) == KILL, (role.name, name)


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_that_no_table_names_fail(machine):
    column = MACHINES[machine][0]
    named = {numbers[column] for numbers in NUMBERS.values()}
    for number in range(LAST + 1):
        if number not in named:
            assert decide(machine, number) == EPERM, number
    assert decide(machine, LAST + 1) == decide(machine, 5000) == ENOSYS


def test_calls_of_other_machines_end_the_process():
    for machine, other in (("x86_64", 0x40000003), ("aarch64", 0x40000028)):  # those of the 32-bit programs it runs
        assert verdict(program(WORKER, machine, PID), other, 0) == KILL
    assert decide("x86_64", 0x40000001) == KILL  # write(2) of x32


def test_plain_calls_do_not_look_at_arguments():
    """Only then the kernel knows their verdict in advance, and the path of a request does not run the filter."""
    code = program(WORKER, "x86_64", PID)
    looks = [step for step in range(0, len(code), 8) if code[step : step + 2] == b"\x20\x00"]
    first_argument = next(step for step in looks if int.from_bytes(code[step + 4 : step + 8], "little") >= 16)
    last = NUMBERS[PLAIN[-1]][0]
    assert last is not None
    last_plain = code.index(last.to_bytes(4, "little"))
    assert last_plain < first_argument


def resolved() -> Iterator[tuple[str, str, int]]:
    """Every name with its number, as libseccomp knows it; negative: no such call there, or too new for it."""
    library = ctypes.CDLL("libseccomp.so.2")
    find = library.seccomp_syscall_resolve_name_arch
    find.argtypes, find.restype = (ctypes.c_uint32, ctypes.c_char_p), ctypes.c_int
    for name in NUMBERS:
        for machine, (_, architecture, _) in MACHINES.items():
            yield name, machine, find(architecture, name.encode())


def test_numbers_are_those_of_libseccomp():
    try:
        found = list(resolved())
    except OSError:
        pytest.skip("left out: there is no libseccomp (libseccomp2) to compare with")
    ours = {(name, machine): NUMBERS[name][MACHINES[machine][0]] for name, machine, _ in found}
    wrong = [item for item in found if item[2] >= 0 and ours[item[0], item[1]] != item[2]]
    assert wrong == []
    assert [item for item in found if item[2] < 0 and ours[item[0], item[1]] is not None] == []


IDENTITIES = [
    ("setuid", (65534,), ALLOW), ("setuid", (0,), EPERM), ("setgid", (0,), EPERM), ("setfsuid", (0,), EPERM),
    ("setfsgid", (0,), EPERM), ("setreuid", (1, 0), EPERM), ("setreuid", (0, 1), EPERM), ("setregid", (1, 1), ALLOW),
    ("setresuid", (1, 1, 0), EPERM), ("setresuid", (1, 0, 1), EPERM), ("setresgid", (0, 1, 1), EPERM),
    ("setresgid", (1, 1, 1), ALLOW), ("clone", (17,), ALLOW), ("clone", (0x10000000,), EPERM), ("clone3", (), ENOSYS),
    ("unshare", (), EPERM), ("setns", (), EPERM), ("execve", (), ALLOW), ("setgroups", (), ALLOW), ("read", (), ALLOW),
]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name, arguments, expected", IDENTITIES)
def test_any_user_but_root(machine: str, name: str, arguments: tuple[int, ...], expected: int) -> None:
    column, architecture, _ = MACHINES[machine]
    number = NUMBERS[name][column]
    assert number is not None
    assert verdict(never_root(machine), architecture, number, arguments) == expected
    assert verdict(never_root(machine), 0x40000003, number, arguments) == EPERM  # the calls of i386
