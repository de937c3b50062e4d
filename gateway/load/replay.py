"""Refuses reports that are replayed or too old: a signature alone proves neither freshness nor uniqueness."""

import enum
from collections.abc import Collection
from typing import Final, NamedTuple

from loadagent.receipt import Trial
from loadagent.report import Report

MAX_SKEW: Final = 30.0
"""Largest difference in seconds between the clocks of sender and receiver."""
MAX_SENDERS: Final = 65536
_NANOSECONDS: Final = 1_000_000_000


class Verdict(enum.Enum):
    """The verdict on a signed report."""

    ACCEPTED = "accepted"
    REPLAYED = "replayed or overtaken"
    SKEWED = "the sender's clock differs too much"
    FUTURE = "an incarnation from the future"
    EARLIER = "sent before this gateway began to listen"
    ELSEWHERE = "another address reports for this server"


class _Last(NamedTuple):
    """The last report of a sender: its numbers, when it arrived (monotonic seconds) and from where."""

    number: tuple[int, int]
    heard: float
    source: str | None

    def has_moved(self, source: str | None) -> bool:
        """Whether it came from another address than `source`."""
        return None not in (source, self.source) and source != self.source


class ReplayGuard:
    """Remembers the last report of every sender, a server in one backend or in all.

    `wall` (ns since 1970) and `steady` (seconds of a clock that never jumps) say when the guard begins; `max_skew` is
    in seconds. At most `capacity` senders are remembered; the one that has been silent longest makes room for another.
    A sender that was forgotten is believed again, so invented names shut none out.
    """

    def __init__(self, wall: int, steady: float, max_skew: float = MAX_SKEW, capacity: int = MAX_SENDERS) -> None:
        self._max_skew = round(max_skew * _NANOSECONDS)
        self._began = wall
        # By then whatever was sent before the beginning is too old anyway; and a clock that was ahead at the
        # beginning keeps reports out no longer than this.
        self._settled = steady + max_skew
        # A report that was accepted has a time of at most `max_skew` ahead, and is too old `max_skew` after that: by
        # then its numbers need not be remembered, and one whose clock was ahead may restart its numbers.
        self._memory = 2 * max_skew
        self._capacity = capacity
        self._last: dict[tuple[str | None, str], _Last] = {}  # the longest silent first

    def check(
        self, report: Report, wall: int, steady: float, source: str | None = None, home: Collection[str] = ()
    ) -> Verdict:
        """Judge a report whose signature is good, and remember it if accepted. Times are as those of the beginning.

        Accepted are (incarnation, sequence) that rise strictly for each sender: an agent that is started
        again begins a later incarnation at sequence 1.

        `source` is given if others have the key, too: the address that the report came from. While a sender is
        remembered, reports are accepted only from the address that it was last heard from, and from the server's own,
        those in `home`.
        """
        if self._is_skewed(report.time, wall):
            return Verdict.SKEWED
        if report.incarnation > wall + self._max_skew:
            return Verdict.FUTURE
        if report.time < self._began and steady < self._settled:
            return Verdict.EARLIER
        sender = report.backend, report.server
        number = report.incarnation, report.sequence
        last = self._remembered(sender, steady)
        if last is not None:
            moved = last.has_moved(source)
            if moved and source not in home:
                return Verdict.ELSEWHERE
            regained = moved and last.source not in home
            if number <= last.number and not regained:
                return Verdict.REPLAYED
        self._last.pop(sender, None)
        self._last[sender] = _Last(number, steady, source)
        if len(self._last) > self._capacity:
            del self._last[next(iter(self._last))]
        return Verdict.ACCEPTED

    def foresee(
        self, trial: Trial, wall: int, steady: float, source: str | None = None, home: Collection[str] = ()
    ) -> tuple[Verdict, float | None]:
        """How `check` would judge the next report of a sender, and the seconds since its last one; remembers nothing.

        None: it has not been heard lately.
        """
        last = self._remembered((trial.backend, trial.server), steady)
        age = None if last is None else steady - last.heard
        if self._is_skewed(trial.time, wall):
            return Verdict.SKEWED, age
        if last is not None and last.has_moved(source) and source not in home:
            return Verdict.ELSEWHERE, age
        return Verdict.ACCEPTED, age

    def _is_skewed(self, time: int, wall: int) -> bool:
        return abs(time - wall) > self._max_skew

    def _remembered(self, sender: tuple[str | None, str], steady: float) -> _Last | None:
        last = self._last.get(sender)
        return last if last is not None and steady <= last.heard + self._memory else None
