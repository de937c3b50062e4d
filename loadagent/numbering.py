"""Numbers reports, so that a receiver can tell a new report from a replayed one."""

import time
from collections.abc import Callable


class Numbering:
    """The numbers of one sender's reports. `clock` returns ns since 1970.

    An incarnation is identified by its start time. If the clock goes back, a new incarnation begins: receivers refuse
    an incarnation from the future, so one that began while the clock was ahead would never be accepted.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._incarnation = self._last = clock()
        self._sequence = 0

    def next(self) -> tuple[int, int, int]:
        """Return incarnation, sequence and time of the next report: ns since 1970, a count from 1, ns since 1970."""
        now = self._clock()
        if now < self._last:
            self._incarnation, self._sequence = now, 0
        self._last = now
        self._sequence += 1
        return self._incarnation, self._sequence, now
