"""Damps recoveries: the more often something fails, the longer it must work before it counts as recovered. Pure."""

from typing import Final

FIRST: Final = 1.0
"""Seconds for which it must work after the first failure."""
LONGEST: Final = 60.0
FORGET: Final = 120.0
"""Seconds without a failure after which earlier ones are forgotten."""


class Damper:
    """Follows a falling value at once, and a rising one after a hold time. Times in seconds of any monotonic clock."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.falls = 0
        self.total_falls = 0
        self._fell = float("-inf")
        self._better: tuple[int, float] | None = None

    def observe(self, value: int, now: float) -> int:
        """Take a measurement; return the damped value."""
        if value < self.value:
            self.total_falls += 1
            self.falls = self.falls + 1 if now - self._fell < FORGET else 1
            self._fell = now
            self.value, self._better = value, None
        elif value == self.value:
            self._better = None
        else:
            lowest, since = self._better or (value, now)
            self._better = min(lowest, value), since
            if not self.falls or now - since >= self.hold:
                self.value, self._better = self._better[0], None
        return self.value

    @property
    def hold(self) -> float:
        """Current hold time in seconds."""
        return min(LONGEST, FIRST * 2.0 ** (self.falls - 1)) if self.falls else 0.0
