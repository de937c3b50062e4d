"""What `gateway top` shows: the difference between two reports, and what a sample of the requests says. Pure."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.board import BOUNDS
from gateway.reports import BackendReport, ClassReport, FrontendReport, GatewayReport, ServerReport, TrafficReport

KEYS: Final = 2000
"""Clients, or URLs, that are counted in one interval."""
INTERVALS: Final = 10
"""That top clients, URLs and slowest requests are of."""
SHOWN: Final = 50
"""Rows of each table in JSON."""


def percentile(part: float, durations: Sequence[int], bounds: Sequence[float] = BOUNDS) -> float | None:
    """Seconds within which `part` (0 to 1) of the requests ended, from a histogram; None: there were none.

    Inside a cell it is linear, and beyond the last bound that bound (as histogram_quantile of Prometheus has it).
    """
    rank = part * sum(durations)
    if rank <= 0:
        return None
    low, seen = 0.0, 0
    for count, high in zip(durations, bounds, strict=False):
        if count and seen + count >= rank:
            return low + (high - low) * (rank - seen) / count
        seen, low = seen + count, high
    return bounds[-1]


@dataclass(frozen=True, slots=True)
class TrafficFigures:
    """A frontend, backend or class, per second; durations in milliseconds, None without requests."""

    name: str
    requests: float
    client_errors: float
    server_errors: float
    p50: float | None
    p95: float | None
    p99: float | None
    bytes_in: float
    bytes_out: float
    queued: int
    open: int
    """Connections of a frontend, else requests at servers."""


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """A server, per second."""

    name: str
    state: str
    weight: float
    load: float | None
    requests: float
    failures: float
    mean: float | None
    """Milliseconds that a request was at the server."""
    in_flight: int


@dataclass(frozen=True, slots=True)
class Figures:
    """One moment of a gateway."""

    node: str
    seconds: float
    """Between the two reports."""
    frontends: tuple[TrafficFigures, ...]
    backends: tuple[TrafficFigures, ...]
    classes: tuple[TrafficFigures, ...]
    servers: tuple[ServerFigures, ...]

    @classmethod
    def between(cls, before: GatewayReport, now: GatewayReport, seconds: float) -> "Figures":
        """Compare two reports that were made so many seconds apart."""
        return cls(
            now.node,
            seconds,
            tuple(_traffic(_by_name(before.frontends, each.name), each, seconds) for each in now.frontends),
            tuple(_traffic(_by_name(before.backends, each.name), each, seconds) for each in now.backends),
            tuple(_traffic(_by_name(before.classes, each.name), each, seconds) for each in now.classes),
            tuple(_servers(before.backends, now.backends, seconds)),
        )


def _by_name(reports: Iterable[TrafficReport], name: str) -> TrafficReport | None:
    return next((report for report in reports if report.name == name), None)


def _since(before: int, now: int) -> int:
    """The growth of a counter; one that began again counts from 0."""
    return now - before if now >= before else now


def _traffic(before: TrafficReport | None, now: TrafficReport, seconds: float) -> TrafficFigures:
    zeros = (0,) * len(now.durations)
    durations = [_since(*pair) for pair in zip(before.durations if before else zeros, now.durations, strict=True)]
    answers = [_since(*pair) for pair in zip(before.answers if before else (0,) * 5, now.answers, strict=False)]
    unanswered = _since(before.unanswered if before else 0, now.unanswered)
    return TrafficFigures(
        now.name,
        (sum(answers) + unanswered) / seconds,
        answers[3] / seconds,
        answers[4] / seconds,
        _milliseconds(percentile(0.5, durations)),
        _milliseconds(percentile(0.95, durations)),
        _milliseconds(percentile(0.99, durations)),
        _since(before.bytes_in if before else 0, now.bytes_in) / seconds,
        _since(before.bytes_out if before else 0, now.bytes_out) / seconds,
        now.queued,
        _open(now),
    )


def _open(report: TrafficReport) -> int:
    match report:
        case FrontendReport():
            return report.open
        case ClassReport():
            return report.in_flight
        case BackendReport():
            return sum(server.in_flight for server in report.servers)
    return 0


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _servers(before: Sequence[BackendReport], now: Sequence[BackendReport], seconds: float) -> Iterable[ServerFigures]:
    known = {(backend.name, server.name): server for backend in before for server in backend.servers}
    for backend in now:
        for server in backend.servers:
            yield _server(f"{backend.name}/{server.name}", known.get((backend.name, server.name)), server, seconds)


def _server(name: str, before: ServerReport | None, now: ServerReport, seconds: float) -> ServerFigures:
    requests = _since(before.requests if before else 0, now.requests)
    failures = _since(before.failures if before else 0, now.failures)
    again = before is None or now.busy_seconds < before.busy_seconds
    busy = now.busy_seconds if again or before is None else now.busy_seconds - before.busy_seconds
    state = now.state if now.admin == "ready" else now.admin
    return ServerFigures(
        name,
        state if now.ejection == "in rotation" else now.ejection,
        now.effective_weight,
        now.load,
        requests / seconds,
        failures / seconds,
        busy * 1000 / requests if requests else None,
        now.in_flight,
    )


@dataclass(slots=True)
class _Interval:
    clients: Counter[str] = field(default_factory=Counter)
    urls: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, str, str, int]] = field(default_factory=list)
    """Milliseconds, URL, client, status."""
    count: int = 0
    lost: int = 0


class Sample:
    """The records of the last intervals: who asks most, for what, and what takes longest. Bounded in memory."""

    def __init__(self) -> None:
        self._intervals: deque[_Interval] = deque([_Interval()], maxlen=INTERVALS)

    def turn(self) -> None:
        """Begin the next interval."""
        self._intervals.append(_Interval())

    def add(self, said: Mapping[str, Any]) -> None:
        """Take a line of a tail."""
        now = self._intervals[-1]
        if "lost" in said:
            now.lost += int(said["lost"])
            return
        now.count += 1
        client = str(said.get("client") or "unix")
        url = f"{said.get('host') or '-'}{str(said.get('uri') or '').partition('?')[0]}"
        for counter, key in ((now.clients, client), (now.urls, url)):
            if key in counter or len(counter) < KEYS:
                counter[key] += 1
        now.slowest.append((float(said.get("duration_ms") or 0), url, client, int(said.get("status") or 0)))
        if len(now.slowest) > 2 * SHOWN:
            now.slowest = sorted(now.slowest, reverse=True)[:SHOWN]

    @property
    def count(self) -> int:
        """Requests in the sample."""
        return sum(each.count for each in self._intervals)

    @property
    def lost(self) -> int:
        """Requests that are not in it."""
        return sum(each.lost for each in self._intervals)

    def clients(self) -> list[tuple[str, float]]:
        """The clients with most requests, and their part of all."""
        return self._shares([each.clients for each in self._intervals])

    def urls(self) -> list[tuple[str, float]]:
        """The same for URLs, without queries."""
        return self._shares([each.urls for each in self._intervals])

    def slowest(self) -> list[tuple[float, str, str, int]]:
        """The requests that took longest: milliseconds, URL, client, status."""
        return sorted((each for part in self._intervals for each in part.slowest), reverse=True)[:SHOWN]

    def _shares(self, counters: Iterable[Counter[str]]) -> list[tuple[str, float]]:
        whole: Counter[str] = Counter()
        for counter in counters:
            whole += counter
        return [(key, count / max(1, self.count)) for key, count in whole.most_common(SHOWN)]
