"""CPU time and memory of a process tree, from the kernel's own accounts (proc(5))."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time: `total` in microseconds, `user` and `system` in seconds, which count clock ticks only."""

    total: float
    user: float
    system: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return what process `pid` and all below it have used so far. Raises psutil.NoSuchProcess.

        /proc/PID/task/TID/schedstat counts nanoseconds on a processor; the split into user and system time
        exists in ticks only (/proc/PID/stat), which is exact enough as a ratio over seconds.
        """
        total = user = system = 0.0
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0]) / 1000
            times = process.cpu_times()
            user += times.user
            system += times.system
        return cls(total, user, system)

    def since(self, before: "Usage") -> "Usage":
        """Return what was used after `before`."""
        return Usage(self.total - before.total, self.user - before.user, self.system - before.system)

    @property
    def user_total(self) -> float:
        """The part of `total` that was spent outside the kernel, in microseconds."""
        ticks = self.user + self.system
        return self.total * self.user / ticks if ticks else 0.0


def memory(pid: int) -> int:
    """Return bytes of memory that process `pid` and all below it would free by ending. Raises psutil.NoSuchProcess."""
    root = psutil.Process(pid)
    return sum(_private(process.pid) for process in (root, *root.children(recursive=True)))


def settled_memory(pid: int, seconds: float = 10.0) -> int:
    """Return the same once it has stopped changing, or after `seconds`."""
    end = time.monotonic() + seconds
    last = -1
    while (now := memory(pid)) != last and time.monotonic() < end:
        last = now
        time.sleep(0.5)
    return now


def _private(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no Pss of {pid}")
