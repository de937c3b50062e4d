"""Lists the open files of a process except standard input, output and error, in readable form."""

import ctypes
import os
import re
import socket
from collections import Counter
from pathlib import Path

INET = {"tcp": "tcp", "tcp6": "tcp", "udp": "udp", "udp6": "udp"}
LISTENING = "0A"
PIDFD_GETFD = 438


def open_files(pid: int) -> Counter[str]:
    """Count the descriptors of a process by what they are, such as "tcp:80" or "unix:control.sock".

    A connected pair of Unix sockets is "unix", a socket of TCP that does not listen "tcp connection"; of a file its name
    says enough, with " (to append)", " (to read)" or " (to write)" behind it.

    What tells the memory of a control group (memory.max) is left out: not every machine has one.
    """
    sockets = _sockets(pid)
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if int(entry.name) <= 2:
            continue
        try:
            target = str(entry.readlink())
            flags = int(re.findall(r"flags:\s*(\d+)", Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text())[0], 8)
        except FileNotFoundError:  # closed meanwhile
            continue
        if match := re.fullmatch(r"socket:\[(\d+)\]", target):
            found[sockets.get(match[1]) or _family(pid, int(entry.name))] += 1
        elif match := re.fullmatch(r"anon_inode:\[?(\w+)\]?|(pipe):\[\d+\]", target):
            found[match[1] or match[2]] += 1
        else:
            name = target.removeprefix("/memfd:").removesuffix(" (deleted)").rpartition("/")[2]
            if not name.startswith("memory."):
                found[f"{name} ({_manner(flags)})"] += 1
    return found


def _family(pid: int, number: int) -> str:
    """The family of a socket that no table has, as one of netlink before it is bound."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    try:
        copy = libc.syscall(PIDFD_GETFD, process, number, 0)
    finally:
        os.close(process)
    if copy < 0:
        raise OSError(ctypes.get_errno(), f"cannot look at descriptor {number} of process {pid}")
    with socket.socket(fileno=copy) as sock:
        return socket.AddressFamily(sock.family).name.removeprefix("AF_").lower()


def _manner(flags: int) -> str:
    if flags & os.O_ACCMODE == os.O_RDONLY:
        return "to read"
    return "to append" if flags & os.O_ACCMODE == os.O_WRONLY and flags & os.O_APPEND else "to write"


def _sockets(pid: int) -> dict[str, str]:
    """What each socket in the network namespace of a process is, by its inode."""
    found = {}
    for name, kind in INET.items():
        for fields in _table(pid, name):
            port = int(fields[1].rpartition(":")[2], 16)
            what = f"{kind}:{port}" if kind == "udp" or fields[3] == LISTENING else f"{kind} connection"
            found[fields[9]] = what
    for fields in _table(pid, "unix"):
        found[fields[6]] = f"unix:{fields[7].rpartition('/')[2]}" if len(fields) > 7 else "unix"
    for name, at in (("netlink", 9), ("packet", 8), ("raw", 9), ("raw6", 9), ("icmp", 9), ("icmp6", 9)):
        for fields in _table(pid, name):
            found[fields[at]] = name
    return found


def _table(pid: int, name: str) -> list[list[str]]:
    try:
        lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    except FileNotFoundError:
        return []
    return [line.split() for line in lines]
