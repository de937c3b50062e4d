"""Runs a program under the filter of system calls of a systemd unit, and without memory that can be written and run.

    python -m tests.support.unit_limits UNIT PROGRAM [ARGUMENT…]

As systemd does for SystemCallFilter=, SystemCallErrorNumber=EPERM and MemoryDenyWriteExecute=, by libseccomp.
"""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

ALLOW, EPERM = 0x7FFF0000, 0x00050001
SET_MDWE, NO_EXEC_GAIN = 65, 1  # PR_SET_MDWE, Linux 6.3
NO_NEW_PRIVILEGES = 38


def groups() -> dict[str, set[str]]:
    """Return the sets of system calls that systemd knows, by their names such as @setuid."""
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter"], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    found: dict[str, set[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("@"):
            name = line.strip()
            found[name] = set()
        elif line.startswith("    ") and not line.strip().startswith("#"):
            found[name].add(line.strip())
        elif not line.startswith(" "):
            name = "rest"
            found.setdefault(name, set())
    return found


def allowed(unit: str) -> set[str]:
    """Return the system calls that a unit allows; the first line of its filter makes it a list of what is allowed."""
    known = groups()

    def calls(name: str) -> set[str]:
        return set().union(*map(calls, known[name])) if name.startswith("@") else {name}

    found = calls("@default")
    for inverted, names in re.findall(r"^SystemCallFilter=(~?)(.+)$", unit, re.MULTILINE):
        listed = set().union(*map(calls, names.split()))
        found = found - listed if inverted else found | listed
    return found


def limit(unit: str) -> None:
    """Put this process, and what it runs, under the limits of a unit. Raises OSError."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(EPERM)))
    for name in sorted(allowed(unit)):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            library.seccomp_rule_add(rules, ctypes.c_uint32(ALLOW), number, 0)
    libc = ctypes.CDLL(None)
    zero = ctypes.c_ulong(0)
    libc.prctl(NO_NEW_PRIVILEGES, ctypes.c_ulong(1), zero, zero, zero)
    if "MemoryDenyWriteExecute=yes" in unit:
        libc.prctl(SET_MDWE, ctypes.c_ulong(NO_EXEC_GAIN), zero, zero, zero)  # an older kernel has it not
    if library.seccomp_load(rules):
        raise OSError("libseccomp cannot load the filter")


if __name__ == "__main__":
    limit(Path(sys.argv[1]).read_text())
    os.execvp(sys.argv[2], sys.argv[2:])
