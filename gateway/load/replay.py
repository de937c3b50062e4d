"""Refuses a report that was sent before, or at another time than now: a signature alone proves neither."""

import enum

from loadagent.report import Report

_NANOSECONDS = 1_000_000_000


class Verdict(enum.Enum):
    """Whether a signed report is news."""

    ACCEPTED = "accepted"
    REPLAYED = "replayed or overtaken"
    SKEWED = "the sender's clock differs too much"


class ReplayGuard:
    """Remembers the last report of every server; `max_skew` is in seconds.

    A gateway that has just started remembers nothing, so a captured report can be believed once more until it
    is older than `max_skew`; after that the time in it gives it away.
    """

    def __init__(self, max_skew: float = 30.0) -> None:
        self._max_skew = round(max_skew * _NANOSECONDS)
        self._last: dict[tuple[str | None, str], tuple[int, int]] = {}

    def check(self, report: Report, now: int) -> Verdict:
        """Judge a report whose signature is good, and remember it if accepted. `now` is in ns since 1970.

        Accepted are (incarnation, sequence) that rise strictly for each server: an agent that is started
        again begins a later incarnation at sequence 1.
        """
        if abs(report.time - now) > self._max_skew:
            return Verdict.SKEWED
        sender = report.backend, report.server
        number = report.incarnation, report.sequence
        if number <= self._last.get(sender, (-1, -1)):
            return Verdict.REPLAYED
        self._last[sender] = number
        return Verdict.ACCEPTED
