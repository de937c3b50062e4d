"""Memory in use: new clients are refused before the kernel has to kill a process."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from gateway.board import Board
from gateway.config.snapshot import Snapshot
from gateway.control.tasks import keep_running, stop
from gateway.reports import MemoryReport

LOOK_EVERY: Final = 0.1
"""Seconds."""
HOLDS: Final = 1.0
"""Seconds for which workers use the last result: if control stops measuring, they accept clients again."""
RELIEF: Final = 0.02
"""Share of the memory below the limit that must become free again (hysteresis)."""

_log = logging.getLogger("gateway.control")


class Use(NamedTuple):
    """The used share of a memory, from 0 to 1, and its owner."""

    share: float
    of: str


class _Group(NamedTuple):
    """The files of a control group with a limit (cgroup v2)."""

    name: str
    most: int
    current: int
    stat: int


class MemoryFiles:
    """The files with total and used memory; opened here, because a confined process could not.

    root: where /proc and /sys are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._machine = _open(root / "proc/meminfo")
        self._groups = list(_groups(root))

    def use(self) -> Use | None:
        """The machine or control group with the highest used share; None: no file has figures."""
        return max((use for use in self._all() if use is not None), default=None)

    def close(self) -> None:
        """Close them."""
        for file in (self._machine, *(file for group in self._groups for file in group[1:])):
            if file >= 0:
                os.close(file)
        self._machine, self._groups = -1, []

    def _all(self) -> Iterator[Use | None]:
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = _fields(_read(self._machine).replace(":", " "))
            yield Use(1 - found["MemAvailable"] / found["MemTotal"], "the machine")
        for group in self._groups:
            with contextlib.suppress(OSError, ValueError, KeyError):
                most = _read(group.most).strip()
                if most != "max":
                    # The kernel reclaims inactive page cache before it kills a process.
                    held = int(_read(group.current)) - _fields(_read(group.stat))["inactive_file"]
                    yield Use(held / int(most), f"control group {group.name}")


class MemoryWatch:
    """Measures `files` for the newest snapshot, and tells workers by the Board when memory is short."""

    def __init__(self, board: Board, files: MemoryFiles) -> None:
        self._board = board
        self._files = files
        self._limit: float | None = None
        self._short = False
        self._task: asyncio.Task[None] | None = None

    def apply(self, snapshot: Snapshot) -> None:
        """Use a snapshot from now on."""
        overload = snapshot.site.qos.overload
        self._limit = overload.memory if overload is not None else None
        if self._task is None:
            self._task = asyncio.create_task(keep_running("watching memory", self._watch))

    def report(self) -> MemoryReport:
        """The figures for `gateway status`."""
        use = self._files.use()
        used, of = (round(use.share, 4), use.of) if use is not None else (None, None)
        return MemoryReport(used=used, of=of, limit=self._limit, short=self._short)

    async def close(self) -> None:
        """Stop measuring; workers accept clients again."""
        if self._task is not None:
            await stop([self._task])
        self._board.set_short_of_memory(0.0)
        self._files.close()

    def look(self, now: float) -> None:
        """Measure, and publish the result. now: monotonic seconds."""
        use = self._files.use() if self._limit is not None else None
        short = use is not None and is_short(use.share, self._limit, before=self._short)
        if short and not self._short and use is not None:
            _log.warning(
                "too little memory is free: %.1f %% of that of %s is in use, the limit is %.1f %%: new connections are "
                "closed at once",
                *(use.share * 100, use.of, (self._limit or 0) * 100),
            )
        elif self._short and not short:
            _log.warning("enough memory is free again: new connections are accepted")
        self._short = short
        self._board.set_short_of_memory(now + HOLDS if short else 0.0)

    async def _watch(self) -> None:
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(LOOK_EVERY)


def is_short(used: float, limit: float | None, *, before: bool) -> bool:
    """Whether memory is short, with the share `used` in use; before: the previous result."""
    if limit is None:
        return False
    return used > (min(limit, max(limit - RELIEF, limit / 2)) if before else limit)


def _groups(root: Path) -> Iterator[_Group]:
    """The control groups of this process that have a limit: its own and its ancestors."""
    with contextlib.suppress(OSError):
        line = next((one for one in (root / "proc/self/cgroup").read_text().splitlines() if one.startswith("0::")), "")
        path = Path(line.removeprefix("0::").lstrip("/"))
        for part in (path, *path.parents) if line else ():
            place = root / "sys/fs/cgroup" / part
            files = [_open(place / f"memory.{name}") for name in ("max", "current", "stat")]
            if min(files) >= 0:
                yield _Group(f"/{part}" if str(part) != "." else "/", *files)
            else:
                for file in files:
                    if file >= 0:
                        os.close(file)


def _open(path: Path) -> int:
    """A descriptor; -1: the file does not exist."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _read(file: int) -> str:
    return os.pread(file, 16384, 0).decode("ascii", "replace")


def _fields(text: str) -> dict[str, int]:
    """Parse numbers by the name before each."""
    lines = (line.split() for line in text.splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) > 1}
