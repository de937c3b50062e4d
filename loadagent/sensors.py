"""Sensors of the machine itself, by psutil and /proc. No reading blocks."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import psutil

from loadagent.cgroup import Quota, groups, memory_share

_LOADAVG = Path("/proc/loadavg")
_RUN_QUEUE_SECONDS = 5.0


class Sensor(Protocol):
    """Measures one quantity."""

    def read(self) -> float:
        """Return the value, in the metric's unit. Raises OSError if it is not available now."""


class Cpu:
    """Share of all cores' time that was not idle since the last reading, 0.0 to 1.0; in a container, of its quota.

    Time stolen by the hypervisor counts as busy: this machine cannot use it.
    """

    def __init__(
        self,
        times: Callable[[], Mapping[str, float]] = lambda: psutil.cpu_times()._asdict(),
        quota: Quota | None = None,
    ) -> None:
        self._times = times
        self._quota = quota or Quota()
        self._last = self._busy_and_total()
        self._value = 0.0

    def read(self) -> float:
        """Return the share since the last call; the same value again if the clock has not advanced."""
        busy, total = self._busy_and_total()
        if total > self._last[1]:
            self._value = min(1.0, max(0.0, (busy - self._last[0]) / (total - self._last[1])))
            self._last = busy, total
        return max(self._value, self._quota.read())

    def _busy_and_total(self) -> tuple[float, float]:
        # Linux counts guest time in user time as well (proc(5)).
        times = {name: value for name, value in self._times().items() if not name.startswith("guest")}
        total = sum(times.values())
        return total - times["idle"] - times.get("iowait", 0.0), total


class RunQueue:
    """Runnable tasks per core, averaged over about five seconds.

    The kernel's load averages cover a minute or more and include tasks that wait for disks. This reads the number
    of runnable tasks (proc(5), /proc/loadavg, fourth field), minus the reading task itself.
    """

    def __init__(
        self,
        loadavg: Callable[[], str] = _LOADAVG.read_text,
        clock: Callable[[], float] = time.monotonic,
        cores: int | None = None,
    ) -> None:
        self._loadavg = loadavg
        self._clock = clock
        self._cores = cores or psutil.cpu_count() or 1
        self._average = self._runnable()
        self._at = clock()

    def read(self) -> float:
        """Return the current average."""
        now = self._clock()
        keep = math.exp(-(now - self._at) / _RUN_QUEUE_SECONDS)
        self._average = keep * self._average + (1.0 - keep) * self._runnable()
        self._at = now
        return self._average

    def _runnable(self) -> float:
        runnable = int(self._loadavg().split()[3].partition("/")[0])
        return max(0, runnable - 1) / self._cores


class Memory:
    """Share of the memory that is not available without swapping, 0.0 to 1.0; in a container, of its limit."""

    def __init__(self, found: list[Path] | None = None) -> None:
        self._groups = groups() if found is None else found

    def read(self) -> float:
        """Return the current share."""
        memory = psutil.virtual_memory()
        return max(1.0 - memory.available / memory.total, memory_share(self._groups))


class Network:
    """Bits per second on one interface since the last reading, in the busier direction."""

    def __init__(
        self,
        interface: str,
        counters: Callable[[], Mapping[str, tuple[int, int]]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interface = interface
        self._counters = counters or _interface_bytes
        self._clock = clock
        self._last: tuple[float, tuple[int, int]] | None = None
        self._value = 0.0

    def read(self) -> float:
        """Return the rate since the last call, initially 0.0. Raises OSError if there is no such interface."""
        counters = self._counters().get(self._interface)
        if counters is None:
            self._last = None
            raise OSError(f"there is no network interface {self._interface!r}")
        now = self._clock()
        if self._last is None:
            self._last = now, counters
        elif now > self._last[0]:
            moved = max(new - old for new, old in zip(counters, self._last[1], strict=True))
            self._value = max(0, moved) * 8 / (now - self._last[0])
            self._last = now, counters
        return self._value


def _interface_bytes() -> dict[str, tuple[int, int]]:
    counters = psutil.net_io_counters(pernic=True)
    return {name: (counter.bytes_recv, counter.bytes_sent) for name, counter in counters.items()}
