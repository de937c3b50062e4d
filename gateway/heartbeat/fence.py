"""The lease in the kernel: frames to or from a shared address pass only until a deadline.

A stopped process cannot remove its address, and the kernel would continue to answer for it. Therefore a small program
(eBPF, on the clsact hooks of the interface) inspects every frame: ARP, IPv4, IPv6 and neighbour discovery of a shared
address are dropped once the boot-time clock has passed a deadline in memory that the heartbeat process writes: one
store renews a lease, without a system call. The program remains when the process dies, and then the deadline passes.

Instruction set: RFC 9669. Needs Linux 5.8 and, for the setup, root. Offsets are those of Ethernet frames.
"""

import contextlib
import ctypes
import mmap
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, Literal, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

SLOTS: Final = 64
PRIORITY: Final = 0x4757
"""Priority of this gateway's filters: they replace those of an earlier process, and can be found for removal."""

_SYSCALL: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_MAP_CREATE: Final = 0
_PROG_LOAD: Final = 5
_ARRAY: Final = 2
_MMAPABLE: Final = 1 << 10
_SCHED_CLS: Final = 3
_BOOT_TIME: Final = 125  # the helper bpf_ktime_get_boot_ns
_CLSACT: Final = 0xFFFF0000
_PARENT: Final = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_PASS: Final = -1  # TC_ACT_UNSPEC: continue with other filters
_DROP: Final = 2  # TC_ACT_SHOT

Direction = Literal["ingress", "egress"]


class NoFence(Exception):
    """The kernel refuses the program; the message gives the reason."""


class _Step(NamedTuple):
    code: int
    target: int = 0
    source: int = 0
    offset: str | int = 0
    """Label of a jump's target."""
    value: int = 0


class _Program:
    """Instructions, and the targets of jump labels."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []
        self.labels: dict[str, int] = {}

    def add(self, *steps: _Step) -> None:
        self.steps.extend(steps)

    def label(self, name: str) -> None:
        self.labels[name] = len(self.steps)

    def load(self, size: Literal[1, 2, 4], offset: int) -> None:
        """r0 = `size` bytes of the frame, as a number."""
        self.add(_Step({1: 0x30, 2: 0x28, 4: 0x20}[size], value=offset))

    def jump(self, label: str, *, equal: int | None = None, unless: int | None = None) -> None:
        """Jump to `label`: always, or if r0 is (not) that 32-bit number."""
        code = 0x05 if equal is None and unless is None else 0x16 if equal is not None else 0x56
        self.add(_Step(code, offset=label, value=equal if equal is not None else unless or 0))

    def assemble(self) -> bytes:
        code = bytearray()
        for i, step in enumerate(self.steps):
            offset = self.labels[step.offset] - i - 1 if isinstance(step.offset, str) else step.offset
            value = step.value - (1 << 32) if step.value >= 1 << 31 else step.value
            code += struct.pack("<BBhi", step.code, step.source << 4 | step.target, offset, value)
        return bytes(code)


def program(slots: Mapping[str, int], map_fd: int, direction: Direction) -> bytes:
    """Return the instructions for `slots`: address → index in the map `map_fd`."""
    ours = [ip_address(address) for address in slots]
    inwards = direction == "ingress"
    code = _Program()
    code.add(_Step(0xBF, 6, 1))  # r6 = the frame, for the loads
    code.load(2, 12)
    for protocol in (0x0800, 0x0806, 0x86DD):
        code.jump(f"{protocol}", equal=protocol)
    code.jump("pass")
    for protocol, offset in ((0x0800, 30 if inwards else 26), (0x0806, 38 if inwards else 28)):
        code.label(f"{protocol}")
        code.load(4, offset)
        for ip in ours:
            if ip.version == 4:
                code.jump(f"slot {slots[str(ip)]}", equal=int(ip))
        code.jump("pass")
    code.label(f"{0x86DD}")
    six = [ip for ip in ours if ip.version == 6]
    _match_ipv6(code, "header", six, slots, 38 if inwards else 22)
    code.load(1, 20)
    code.jump("pass", unless=58)  # ICMPv6
    code.load(1, 54)
    code.jump("pass", unless=135 if inwards else 136)  # neighbour solicitation, advertisement (RFC 4861 section 4)
    _match_ipv6(code, "neighbour", six, slots, 62)
    code.jump("pass")
    for ip in ours:
        slot = slots[str(ip)]
        code.label(f"slot {slot}")
        code.add(_Step(0x18, 7, 2, value=map_fd), _Step(0, value=slot * 8))  # r7 = address of the deadline
        code.add(_Step(0x79, 8, 7))  # r8 = the deadline
        code.jump("check")
    code.label("check")
    code.add(_Step(0x85, value=_BOOT_TIME), _Step(0x2D, 0, 8, "drop"))  # r0 = now; later than r8?
    code.label("pass")
    code.add(_Step(0xB7, 0, value=_PASS), _Step(0x95))
    code.label("drop")
    code.add(_Step(0xB7, 0, value=_DROP), _Step(0x95))
    return code.assemble()


def _match_ipv6(code: _Program, what: str, ours: Sequence[Any], slots: Mapping[str, int], offset: int) -> None:
    for ip in ours:
        other = f"{what} is not {ip}"
        for i, word in enumerate(struct.unpack("!4I", ip.packed)):
            code.load(4, offset + 4 * i)
            code.jump(other, unless=word)
        code.jump(f"slot {slots[str(ip)]}")
        code.label(other)


class Deadlines:
    """The memory that the programs read. `descriptor` is the map's; a child process may inherit it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._slots = (ctypes.c_uint64 * SLOTS).from_buffer(self._memory)

    @classmethod
    def create(cls) -> "Deadlines":
        """New deadlines, all in the past. Raises NoFence."""
        return cls(_bpf(_MAP_CREATE, struct.pack("=5I", _ARRAY, 4, 8 * SLOTS, 1, _MMAPABLE)))

    @classmethod
    def create_without_kernel(cls) -> "Deadlines":
        """New deadlines that no program reads: for a kernel without support."""
        descriptor = os.memfd_create("gateway-deadlines", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, mmap.PAGESIZE)
        return cls(descriptor)

    def set(self, slot: int, until: float) -> None:
        """Let frames pass until `until`, seconds of CLOCK_BOOTTIME: one aligned store."""
        self._slots[slot] = max(0, int(until * 1e9)) if until != float("-inf") else 0

    def get(self, slot: int) -> float:
        """Seconds of CLOCK_BOOTTIME."""
        return self._slots[slot] / 1e9


def attach(netlink: IPRoute, index: int, slots: Mapping[str, int], deadlines: Deadlines) -> None:
    """Attach the programs for `slots` to the interface, replacing those of an earlier process. Raises NoFence."""
    try:
        netlink.tc("add", "clsact", index)
    except NetlinkError as error:
        if error.code != 17:  # exists already: it is shared
            raise NoFence(f"no clsact: {error}") from None
    for direction in ("ingress", "egress"):
        code = program(slots, deadlines.descriptor, direction)
        descriptor = _load(code)
        try:
            netlink.tc(
                "replace-filter",
                "bpf",
                index,
                handle=1,
                parent=_PARENT[direction],
                prio=PRIORITY,
                protocol=3,  # ETH_P_ALL
                fd=descriptor,
                name="gateway-lease",
                flags=1,  # the program's return value is the verdict
            )
        except NetlinkError as error:
            raise NoFence(f"the filter was refused: {error}") from None
        finally:
            os.close(descriptor)


def detach(netlink: IPRoute, index: int) -> None:
    """Remove this gateway's programs from the interface, if there are any."""
    for parent in _PARENT.values():
        with contextlib.suppress(NetlinkError):
            netlink.tc("del-filter", "bpf", index, handle=1, parent=parent, prio=PRIORITY, protocol=3)


def _load(code: bytes) -> int:
    instructions = ctypes.create_string_buffer(code)
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    said = ctypes.create_string_buffer(16384)
    request = struct.pack(
        "=IIQQIIQ",
        _SCHED_CLS,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        1,
        len(said),
        ctypes.addressof(said),
    )
    try:
        return _bpf(_PROG_LOAD, request)
    except NoFence as refused:
        lines = said.value.decode(errors="replace").strip().splitlines()
        raise NoFence(f"{refused}{': ' + lines[-1] if lines else ''}") from None


def _bpf(command: int, request: bytes) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise NoFence(f"system call number unknown for {platform.machine()}")
    block = ctypes.create_string_buffer(request.ljust(128, b"\0"))
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(ctypes.c_long(number), ctypes.c_int(command), block, ctypes.c_uint(128))
    if result < 0:
        raise NoFence(f"bpf: {os.strerror(ctypes.get_errno()).lower()}")
    os.set_inheritable(result, False)  # noqa: FBT003 - the os module's own signature
    return result
