"""Slow start: the share of its work that a returning server may have. Pure.

Time alone does not show whether caches are warm. So the share grows with time only while the server keeps up with the
others; while it is overloaded, by its response time or its reported load, the share is constant.
"""

from dataclasses import dataclass
from typing import Final

FIRST: Final = 0.1
"""The initial share."""
STRAINED: Final = 1.5
"""Times the others' response time or reported load: more than this is overload."""
MAX_LENGTHS: Final = 4.0
"""Times `slow_start` after which it gets its full share in any case: it may simply be a slow machine."""
BUSY: Final = 0.5
"""A reported load below this is not overload."""


@dataclass(frozen=True, slots=True)
class Strain:
    """A server compared with the others (their medians): response time in seconds, reported load; None: not known."""

    seconds: float | None = None
    others_seconds: float | None = None
    load: float | None = None
    others_load: float | None = None

    @property
    def high(self) -> bool:
        """Whether the server is overloaded."""
        slow = self.seconds and self.others_seconds and self.seconds > STRAINED * self.others_seconds
        full = self.load and self.load > max(BUSY, STRAINED * (self.others_load or 0.0))
        return bool(slow or full)


class Ramp:
    """One server's slow start of `length` seconds, begun at `now`, in seconds of any monotonic clock."""

    def __init__(self, length: float, now: float) -> None:
        self._length = length
        self._began = self._now = now
        self.share = FIRST

    def advance(self, now: float, strain: Strain) -> float:
        """Return the share from `now` on; 1.0 when the slow start is over."""
        elapsed, self._now = now - self._now, now
        if not strain.high:
            self.share += (1.0 - FIRST) * elapsed / self._length
        if self.share > 1.0 - 1e-9 or now - self._began >= MAX_LENGTHS * self._length:
            self.share = 1.0
        return self.share
