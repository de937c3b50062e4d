"""Slow start: how much of its work a server that came back may have already. Pure.

Time alone says nothing about whether caches are warm. So the share grows by the clock only while the server keeps up
with the others; while it is strained, by the time that it takes or by the load that it reports, the share stands still.
"""

from dataclasses import dataclass
from typing import Final

FIRST: Final = 0.1
"""The share it begins with."""
STRAINED: Final = 1.5
"""Times what the others take to answer, or report as load: more than this is strain."""
MAX_LENGTHS: Final = 4.0
"""Times `slow_start` after which it gets its full share whatever it does: it may just be a slow machine."""
BUSY: Final = 0.5
"""Below this, a reported load is no strain."""


@dataclass(frozen=True, slots=True)
class Strain:
    """How a server does beside the others (their medians): seconds to an answer, reported load; None: not known."""

    seconds: float | None = None
    others_seconds: float | None = None
    load: float | None = None
    others_load: float | None = None

    @property
    def high(self) -> bool:
        """Whether it is more than it should bear."""
        slow = self.seconds and self.others_seconds and self.seconds > STRAINED * self.others_seconds
        full = self.load and self.load > max(BUSY, STRAINED * (self.others_load or 0.0))
        return bool(slow or full)


class Ramp:
    """One server's slow start of `length` seconds, begun at `now`, in seconds of any one steady clock."""

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
