"""A simulated server's executors: their number, how many are busy, and their recent utilization."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

SMOOTHING = 1.0  # seconds of the exponential average: quick enough to watch, slow enough to read


class Pool:
    """`size` executors, handed out in order of arrival. `clock` counts seconds."""

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self._size = size
        self._clock = clock
        self._free = asyncio.Semaphore(size)
        self._busy = 0
        self._since = clock()
        self._load = 0.0

    @property
    def load(self) -> float:
        """The share of the executors that was busy, averaged exponentially over SMOOTHING: 0.0 to 1.0."""
        now = self._clock()
        kept = math.exp((self._since - now) / SMOOTHING)
        self._load = self._load * kept + self._busy / self._size * (1.0 - kept)
        self._since = now
        return self._load

    def _count(self, change: int) -> None:
        _ = self.load  # what was until now counts as it was
        self._busy += change

    @asynccontextmanager
    async def executor(self) -> AsyncIterator[None]:
        """Wait for an executor and keep it for the block."""
        async with self._free:
            self._count(1)
            try:
                yield
            finally:
                self._count(-1)
