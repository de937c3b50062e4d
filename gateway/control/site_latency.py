"""How far each site is from the resolvers that ask, for the name server's choice of the nearest. Pure.

When a resolver asks this gateway for a name with `latency`, the reports to the other sites have that question, and each
site that may probe measures the time to it and reports that. All of it is bounded: the resolvers that are known, the
questions and the probes; and what was measured is kept for so long as the site file says, also that there is no answer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from gateway.control import site_report
from gateway.control.site_report import Detail

Ip: TypeAlias = IPv4Address | IPv6Address

KNOWN: Final = 256
"""Resolvers of which the times to sites are known,"""
NEAREST: Final = 6
"""sites of each that the name server is told of, the nearest ones,"""
PENDING: Final = 256
"""resolvers that are to be probed,"""
MEASURED: Final = 4096
"""and of which this site's own result is kept."""
AGAIN: Final = (2.0, 10.0, 60.0)
"""Seconds from one question about a resolver to the next, while sites have not answered; then half of `keep`."""
TOLD: Final = 3
"""Times that a result is said: a report may be lost."""
BURST: Final = 5
"""Probes at once."""


@dataclass(slots=True)
class Resolver:
    """What is known of one that asks here."""

    seen: float
    """When it has asked last."""
    asked: int = 0
    """Questions to the other sites so far."""
    next_question: float = 0.0
    times: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Milliseconds from each site, and when that was said."""


class SiteLatency:
    """The times of all sites to resolvers. `site` is the name of this one; it may probe `rate` a second, 0: none.

    `keep`: seconds for which a result is used. Times are seconds of any monotonic clock.
    """

    def __init__(self, site: str, rate: float, keep: float) -> None:
        self.settings = site, rate, keep
        self._site = site
        self._rate = rate
        self._keep = keep
        self._tokens, self._filled = float(BURST), 0.0
        self._resolvers: dict[Ip, Resolver] = {}
        self._pending: dict[Ip, None] = {}
        self._asked: dict[Ip, None] = {}
        """Those that another gateway has asked about, and that have no result."""
        self._measured: dict[Ip, tuple[float | None, float]] = {}
        self._telling: dict[Ip, int] = {}
        """Results of this site that are to be said so many times yet."""

    def see(self, resolvers: Iterable[Ip], now: float) -> None:
        """Take the resolvers that have asked this gateway lately."""
        for ip in resolvers:
            known = self._resolvers.pop(ip, None) or Resolver(now)
            known.seen = now
            self._resolvers[ip] = known  # the newest are last
            self._want(ip, now)
            ms, when = self._measured.get(ip, (None, 0.0))
            if ms is not None:
                known.times[self._site] = ms, when
        while self._resolvers and (len(self._resolvers) > KNOWN or now - self._oldest.seen > self._keep):
            del self._resolvers[next(iter(self._resolvers))]

    def hear(self, site: str, times: Mapping[Ip, float], asks: Iterable[Ip], now: float) -> None:
        """Take what a gateway of a site has reported: its times to resolvers, and those that it wants to know."""
        for ip, ms in times.items():
            if ip in self._resolvers:
                self._resolvers[ip].times[site] = ms, now
        for ip in asks:
            self._want(ip, now)
            if self._measured.get(ip, (None, 0.0))[0] is not None:
                self._tell(ip)
            elif self._rate > 0.0 and len(self._asked) < PENDING:
                self._asked.setdefault(ip)

    def due(self, now: float) -> Ip | None:
        """A resolver to probe now, as often as this site may."""
        self._tokens = min(float(BURST), self._tokens + self._rate * max(0.0, now - self._filled))
        self._filled = now
        if not self._pending or self._tokens < 1.0:
            return None
        self._tokens -= 1.0
        ip = next(iter(self._pending))
        del self._pending[ip]
        before, _ = self._measured.pop(ip, (None, 0.0))
        self._measured[ip] = before, now  # until there is a result: it is not probed twice
        return ip

    def measured(self, ip: Ip, ms: float | None, now: float) -> None:
        """Take the result of a probe; None: no answer."""
        self._measured.pop(ip, None)
        self._measured[ip] = ms, now
        while len(self._measured) > MEASURED:
            del self._measured[next(iter(self._measured))]
        known = self._resolvers.get(ip)
        if known is not None and ms is not None:
            known.times[self._site] = ms, now
        if ip in self._asked:
            del self._asked[ip]
            self._tell(ip)

    def details(self, most: int, now: float) -> list[Detail]:
        """What is to be said to the other sites next: results, then questions."""
        found: list[Detail] = []
        for ip in list(self._telling)[:most]:
            left = self._telling.pop(ip) - 1
            if left:
                self._telling[ip] = left
            ms, _ = self._measured.get(ip, (None, 0.0))
            if ms is not None:
                found.append(site_report.time(ip, ms))
        for ip, resolver in reversed(self._resolvers.items()):
            if len(found) >= most:
                break
            if now >= resolver.next_question:
                wait = AGAIN[resolver.asked] if resolver.asked < len(AGAIN) else self._keep / 2
                resolver.asked, resolver.next_question = resolver.asked + 1, now + wait
                found.append(site_report.ask(ip))
        return found

    def known(self, now: float) -> dict[str, dict[str, float]]:
        """Milliseconds from each site to each resolver that asks here, as far as they are known."""
        found = {}
        for ip, resolver in self._resolvers.items():
            times = {site: round(ms, 3) for site, (ms, said) in resolver.times.items() if now - said <= self._keep}
            if times:
                found[str(ip)] = dict(sorted(times.items(), key=lambda item: item[1])[:NEAREST])
        return found

    def _want(self, ip: Ip, now: float) -> None:
        """Have a resolver probed by this site, unless that was done lately."""
        if self._rate <= 0.0 or not may_be_probed(ip):
            return
        _, when = self._measured.get(ip, (None, None))
        if (when is None or now - when > self._keep / 2) and len(self._pending) < PENDING:
            self._pending.setdefault(ip)

    def _tell(self, ip: Ip) -> None:
        if len(self._telling) < PENDING:
            self._telling[ip] = TOLD

    @property
    def _oldest(self) -> Resolver:
        return next(iter(self._resolvers.values()))


def may_be_probed(ip: Ip) -> bool:
    """Whether an address can be that of a resolver elsewhere."""
    return not (ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip.is_link_local)
