"""The goals of the gateway, and whether a run has reached them. A missed goal is reported, not an error."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench import breadth, features, http2, idle, latency, reload, scaling, start
from bench.cases import CASES, SMALL
from bench.figure import Figure, Figures, rounded
from bench.peers.all import MEASURED_AGAINST
from bench.peers.floor import FLOOR
from bench.peers.gateway import GATEWAY
from bench.peers.haproxy import HAPROXY
from bench.peers.nginx import NGINX

FLAT = 1.1


@dataclass(frozen=True, slots=True)
class Goal:
    """The gateway's `metric` of `case` is at most `limit`, or at least that if `more`.

    With `against` it is relative to the least figure of those proxies in case `base` (without it: the same case).
    """

    case: str
    metric: str
    limit: float
    against: tuple[str, ...] = ()
    base: str = ""
    more: bool = False

    def title(self) -> str:
        """Return what is compared, in readable form."""
        text = f"{self.case}: {self.metric}"
        if self.base:
            return f"{text} / {self.base}"
        if self.against == MEASURED_AGAINST:
            return f"{text} / better peer"
        return f"{text} / {self.against[0]}" if self.against else text

    def figure(self, figures: Figures) -> Figure | None:
        """Return the figure to compare; None if it was not measured."""
        mine = figures.get(self.case, GATEWAY.name, self.metric)
        if mine is None or not self.against:
            return mine
        yardstick = figures.least(self.base or self.case, self.against, self.metric)
        return mine.over(yardstick) if yardstick else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what was measured."""

    goal: Goal
    figure: Figure

    @property
    def met(self) -> bool:
        """Whether the median reaches the goal."""
        value, limit = self.figure.median, self.goal.limit
        return value >= limit if self.goal.more else value <= limit

    def as_json(self) -> dict[str, object]:
        """Return what is kept in a result."""
        low, high = self.figure.quartiles
        return {
            "goal": self.goal.title(),
            "limit": self.goal.limit,
            "value": rounded(self.figure.median),
            "low": rounded(low),
            "high": rounded(high),
            "met": self.met,
        }


def _goals() -> Iterable[Goal]:
    for case in CASES:
        if case.goal is not None:
            yield Goal(case.name, "cpu", case.goal, MEASURED_AGAINST)
    for name in (SMALL.name, "10 KB"):
        yield Goal(name, "cpu", 1.45, (FLOOR.name,))
    yield Goal(SMALL.name, "calls", 4.5)
    yield Goal(SMALL.name, "reuse", 0.995, more=True)
    for answer, peer, limit in (
        (http2.SMALL_ANSWER, NGINX.name, 1.0),
        (http2.SMALL_ANSWER, HAPROXY.name, 0.8),
        (http2.LARGE_ANSWER, NGINX.name, 1.0),
        (http2.LARGE_ANSWER, HAPROXY.name, 1.0),
    ):
        yield Goal(answer, "cpu", limit, (peer,))
    yield Goal(http2.TO_SERVERS, "cpu", 0.9, MEASURED_AGAINST)
    for case in latency.ASKED:
        yield Goal(latency.name(case), "p99", 1.0, MEASURED_AGAINST)
    for count in idle.COUNTS:
        yield Goal(idle.name(count, tls=False), "memory", 2048)
        yield Goal(idle.name(count, tls=True), "memory", 1.2, (HAPROXY.name,))
        yield Goal(idle.beside(count), "cpu", 0.85, MEASURED_AGAINST)
    yield Goal(features.ALL_ON, "cpu", 1.1, (GATEWAY.name,), features.PLAIN)
    yield Goal(scaling.name(2), "scaling", 1.8, more=True)
    few, many = breadth.CONNECTIONS[0], breadth.CONNECTIONS[-1]
    yield Goal(breadth.connections_name(many), "cpu", FLAT, (GATEWAY.name,), breadth.connections_name(few))
    few, many = breadth.SERVERS[0], breadth.SERVERS[-1]
    yield Goal(breadth.servers_name(many), "cpu", FLAT, (GATEWAY.name,), breadth.servers_name(few))
    yield Goal(start.CASE, "start", 500)
    yield Goal(reload.CASE, "reload", 1000)
    yield Goal(reload.CASE, "bump", 5)


GOALS = tuple(_goals())


def verdicts(figures: Figures) -> list[Verdict]:
    """Return a verdict for every goal that was measured."""
    return [Verdict(goal, figure) for goal in GOALS if (figure := goal.figure(figures))]
