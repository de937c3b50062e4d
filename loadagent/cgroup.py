"""The resource limits of the agent's container: a container at its quota is full although its host is idle.

Read from control groups version 2 (Linux, Documentation/admin-guide/cgroup-v2.rst): the agent's own group and all its
ancestors, because the tightest limit applies. Without control groups or limits, nothing is measured here.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")


def groups(root: Path = ROOT, own: Path = OWN) -> list[Path]:
    """Return the agent's group and those above it, innermost first; none without version 2."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    name = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if name is None or not (root / "cgroup.controllers").exists():
        return []
    place = Path(name.lstrip("/"))
    inside = [root / part for part in (place, *place.parents)]
    # In a cgroup namespace, /proc may show a path that is only valid outside: then the root is the agent's group.
    return [group for group in dict.fromkeys(inside) if group.is_dir()] or [root]


class Quota:
    """Share of the tightest processor quota that was used since the last reading."""

    def __init__(self, found: list[Path] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._groups = groups() if found is None else found
        self._clock = clock
        self._last: dict[Path, tuple[float, float]] = {}
        self._value = 0.0
        self.read()

    def read(self) -> float:
        """Return the share, 0.0 without a quota; the same again if no time has passed."""
        now = self._clock()
        shares = []
        for group, cores in self._quotas():
            used = _stat(group / "cpu.stat", "usage_usec")
            if used is None:
                continue
            at, before = self._last.get(group, (now, used))
            if now > at:
                shares.append((used - before) / 1e6 / (now - at) / cores)
            if now > at or group not in self._last:
                self._last[group] = now, used
        if shares:
            self._value = max(0.0, *shares)
        return self._value

    def _quotas(self) -> Iterator[tuple[Path, float]]:
        """Each group with a quota, and the quota in processors."""
        for group in self._groups:
            words = _text(group / "cpu.max").split()
            if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[0]) and int(words[1]):
                yield group, int(words[0]) / int(words[1])


def memory_share(found: list[Path]) -> float:
    """Return the used share of the tightest memory limit, 0.0 without one. The page cache does not count."""
    shares = [0.0]
    for group in found:
        limit, current = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
        if limit.isdigit() and current.isdigit() and int(limit):
            cache = _stat(group / "memory.stat", "inactive_file") or 0.0
            shares.append(max(0.0, int(current) - cache) / int(limit))
    return max(shares)


def _stat(path: Path, key: str) -> float | None:
    for line in _text(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdigit():
            return float(value)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
