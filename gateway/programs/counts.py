"""What became of the questions to a program, and when it is started again. Pure."""

from collections import Counter
from typing import Final

REASONS: Final = ("ended", "late", "full", "long", "slow", "unasked")
"""ended: the program ended before it answered, or does not run; late: the question waited too long for its turn; full:
too many waited; long: the answer was too long; slow: there was none in time; unasked: it had written more than one
line for the key before, so that what it writes belongs to no key."""
LONGEST_PAUSE: Final = 30.0
"""Seconds until a program that keeps ending is started again."""


class Counts:
    """Counts, which outlive the processes of the program."""

    def __init__(self) -> None:
        self.found = 0
        """Answers with a value,"""
        self.none = 0
        """and without."""
        self.failed = Counter(dict.fromkeys(REASONS, 0))
        """Questions without an answer, by reason."""
        self.starts = 0
        self.failing = ""
        """Why the program has ended; empty: it has answered since."""
        self._ends = 0

    def answered(self, *, found: bool) -> None:
        """The program has answered."""
        self.found += found
        self.none += not found
        self.failing = ""
        self._ends = 0

    def ended(self, why: str) -> float:
        """The program has ended by itself, or was killed for a fault; the seconds until it is started again."""
        self.failing = why
        self._ends += 1
        return 0.0 if self._ends == 1 else min(LONGEST_PAUSE, 0.1 * 2.0 ** min(self._ends, 20))
