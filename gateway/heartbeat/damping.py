"""Whether to believe that something is well again. A thing that keeps failing must stay well ever longer. Pure."""

from typing import Final

FIRST: Final = 1.0
"""Seconds for which it must be better after the first fall."""
LONGEST: Final = 60.0
FORGET: Final = 120.0
"""Seconds without a fall after which the earlier ones are forgotten."""


class Damper:
    """Follows a value down at once, and up when it has been up for a while. Times in seconds of any steady clock."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.falls = 0
        self.total_falls = 0
        self._fell = float("-inf")
        self._better: tuple[int, float] | None = None

    def observe(self, value: int, now: float) -> int:
        """Take what is measured now; return what to go by."""
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
        """Seconds for which it has to be better."""
        return min(LONGEST, FIRST * 2.0 ** (self.falls - 1)) if self.falls else 0.0
