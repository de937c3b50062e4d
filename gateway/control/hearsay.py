"""What is known of sites by the reports of their gateways: who is heard, who drains, how much each can carry. Pure.

Times are in seconds of any monotonic clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from gateway.control.site_report import SiteReport, of_metrics
from loadagent.report import Report, State

T = TypeVar("T", int, float)

ADAPTING: Final = 0.1
"""The part of an average that the newest second is."""
LEAST_REQUESTS: Final = 1.0
LEAST_LOAD: Final = 0.05
FULL: Final = 1.0
LATE: Final = 2.5
"""Seconds of silence, two lost reports, from which on a site is trusted less and less, until `stale_after`."""
MAX_NODES: Final = 64
"""Number of a site's gateways that are remembered."""
MAX_BACKENDS: Final = 64
"""Number of a site's backends of which that is said,"""
BACKEND_LATE: Final = 30.0
"""and seconds after which what was said of one is forgotten."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a gateway of a site has said of it, and when."""

    said: float
    state: State
    report: SiteReport


@dataclass(frozen=True, slots=True)
class SiteView:
    """A site as its gateways describe it. `up`: one of them was heard; `draining`: none of them takes new clients.

    `load` is the mean of the last second. `evacuates` is a gateway that was told to evacuate
    the site, or None. `trust` falls from 1 to 0 while it is silent. `sessions_free` and `responses` are sums, None if
    no gateway says that; `backends` has the part of each backend's servers that works, as the gateway sees it that sees
    the fewest.
    """

    up: bool
    draining: bool = False
    load: float | None = None
    requests: float = 0.0
    evacuates: str | None = None
    trust: float = 1.0
    sessions_free: int | None = None
    responses: float | None = None
    open_names: int = 0
    backends: Mapping[str, float] = field(default_factory=dict)


class Hearsay:
    """The reported states of sites."""

    def __init__(self) -> None:
        self._said: dict[str, dict[str, Heard]] = {}
        self._backends: dict[str, dict[tuple[str, str], tuple[float, float]]] = {}
        """Of each site, by backend and gateway: the part that works, and when that was said."""

    def hear(self, report: Report, now: float) -> SiteReport:
        """Process a report of a site's gateway; returns what it says."""
        nodes = self._said.setdefault(report.server, {})
        nodes.pop(report.backend or "", None)
        said = of_metrics(report.metrics)
        if report.state is not State.MAINTENANCE:
            if said.sessions_free == 0:  # a client that is sent there would wait, though servers are idle
                said = replace(said, load=max(FULL, said.load or 0.0), mean_load=max(FULL, said.mean_load or 0.0))
            nodes[report.backend or ""] = Heard(now, report.state, said)
            self._note_backends(report.server, report.backend or "", said.backends, now)
        if len(nodes) > MAX_NODES:  # forget the one that has been silent longest; its next report adds it again
            del nodes[next(iter(nodes))]
        return said

    def load(self, site: str, now: float, stale_after: float) -> tuple[float, float] | None:
        """(load, time of the report); None: it is unknown, or the site takes no new clients."""
        heard = self._recent(site, now, stale_after)
        ready = [] if _evacuates(heard) else [one for one in heard.values() if one.state is State.READY]
        return max(((load, one.said) for one in ready if (load := one.report.load) is not None), default=None)

    def view(self, site: str, now: float, stale_after: float) -> SiteView:
        """The state of a site."""
        heard = self._recent(site, now, stale_after)
        evacuates = _evacuates(heard)
        ready = [one for one in heard.values() if one.state is State.READY and evacuates is None]
        reports = [one.report for one in ready]
        load = max((one.mean_load for one in reports if one.mean_load is not None), default=None)
        requests = sum(one.requests for one in reports)
        silence = min((now - one.said for one in heard.values()), default=0.0)
        trust = 1.0 - max(0.0, silence - LATE) / (stale_after - LATE) if stale_after > LATE else 1.0
        return SiteView(
            bool(heard),
            bool(heard) and not ready,
            load,
            requests,
            evacuates,
            trust,
            _sum(one.sessions_free for one in reports),
            _sum(one.report.responses for one in heard.values()),
            max((one.report.open_names for one in heard.values()), default=0),
            self._backends_of(site, heard, now),
        )

    def ttl(self, now: float, stale_after: float) -> float:
        """The longest TTL of all name servers, in seconds."""
        recent = [one for site in self._said for one in self._recent(site, now, stale_after).values()]
        return max((one.report.ttl for one in recent), default=0.0)

    def _note_backends(self, site: str, node: str, parts: Mapping[str, float], now: float) -> None:
        known = self._backends.setdefault(site, {})
        for name, part in parts.items():
            known.pop((name, node), None)
            known[name, node] = round(part, 3), now
        while len(known) > MAX_BACKENDS * MAX_NODES:
            del known[next(iter(known))]

    def _backends_of(self, site: str, heard: Mapping[str, Heard], now: float) -> dict[str, float]:
        found: dict[str, float] = {}
        for (name, node), (part, said) in self._backends.get(site, {}).items():
            if node in heard and now - said <= BACKEND_LATE:
                found[name] = min(part, found.get(name, 1.0))
        return dict(sorted(found.items())[:MAX_BACKENDS])

    def _recent(self, site: str, now: float, stale_after: float) -> Mapping[str, Heard]:
        """What the gateways of a site that are not silent have said; the others are forgotten."""
        nodes = self._said.get(site, {})
        for node in [node for node, heard in nodes.items() if now - heard.said > stale_after]:
            del nodes[node]
        return nodes


def _evacuates(heard: Mapping[str, Heard]) -> str | None:
    """A gateway that was told to evacuate its site."""
    return next((node for node, one in heard.items() if one.report.evacuates), None)


def _sum(parts: Iterable[T | None]) -> T | None:
    """The sum of those that are known; None: none is."""
    known = [part for part in parts if part is not None]
    return sum(known[1:], known[0]) if known else None


class Capacity:
    """The requests per second at which a site would be full: what it answers, divided by its load; pure.

    A nearly idle site says little about itself, so its last estimate stays. Both figures are averaged: the load of a
    moment and the requests of a moment do not belong together.
    """

    def __init__(self) -> None:
        self.estimate: float | None = None
        self._requests: float | None = None
        self._load = 0.0

    def observe(self, requests: float, load: float | None) -> None:
        """Take the figures of one more second."""
        if load is None:
            return
        if self._requests is None:
            self._requests, self._load = requests, load
        self._requests += (requests - self._requests) * ADAPTING
        self._load += (load - self._load) * ADAPTING
        if self._requests >= LEAST_REQUESTS and self._load >= LEAST_LOAD:
            self.estimate = self._requests / self._load
