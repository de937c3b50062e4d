"""Which sites are near a client, and why: by its network, by the measured time to its resolver, or by the place where a
MaxMind file has it. Pure.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

from gateway.config.places import Database, Place, preferred
from gateway.dns.networks import BITS, Networks

Ip: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Near:
    """The sites near a client, nearest first; `scope`: bits of its address for which nothing else would be said."""

    sites: tuple[str, ...] = ()
    scope: int = 0
    reasons: tuple[str, ...] = ()
    """Why each of them is, in words."""


ASKING: Final = 256
"""Resolvers that are remembered as having asked lately."""


class Latencies:
    """The measured times from sites to resolvers, and the resolvers that ask."""

    def __init__(self) -> None:
        self._times: dict[Ip, tuple[tuple[float, str], ...]] = {}
        self._asking: dict[Ip, None] = {}
        self._before: dict[Ip, None] = {}

    def use(self, times: Mapping[str, Mapping[str, float]]) -> None:
        """Take the milliseconds from each site to each resolver, by its address."""
        self._times = {ip_address(ip): tuple(sorted((ms, site) for site, ms in of.items())) for ip, of in times.items()}

    def find(self, resolver: Ip, sites: Collection[str]) -> list[tuple[str, float]]:
        """Sites by their time to a resolver, in milliseconds; none unless those of two are known, to be compared.

        The resolver is remembered as one that asks.
        """
        self._asking.pop(resolver, None)
        self._asking[resolver] = None
        if len(self._asking) > ASKING:
            del self._asking[next(iter(self._asking))]
        found = [(site, ms) for ms, site in self._times.get(resolver, ()) if site in sites]
        return found if len(found) > 1 else []

    @property
    def asking(self) -> tuple[str, ...]:
        """The resolvers that have asked since the last `forget` but one."""
        return tuple(map(str, {**self._asking, **self._before}))[:ASKING]

    def forget(self) -> None:
        """Forget those that have not asked since this was called last."""
        self._before, self._asking = self._asking, {}


NOT_KNOWN: Final = Near()


class Nearest:
    """What a name knows of the clients that are near its sites."""

    def __init__(
        self,
        networks: Networks,
        places: Mapping[str, Place] | None = None,
        database: Database | None = None,
        latencies: Latencies | None = None,
        sites: Collection[str] = (),
    ) -> None:
        """`latencies` are used if they are given, for `sites`."""
        self._latencies = latencies
        self._sites = frozenset(sites)
        self._networks = networks
        self._places = tuple((places or {}).items()) if database is not None else ()
        self._database = database
        self.failed = 0
        """Lookups in the MaxMind file that have failed: it is damaged."""

    def __bool__(self) -> bool:
        """Whether anything is known of any client."""
        return bool(self._networks or self._places or self._latencies is not None)

    def find(self, address: Ip, source: int, *, sender: bool = False) -> Near:
        """The sites near a client of which the first `source` bits are known; `sender`: the query has come from there.

        Networks decide before latencies, and these before places.
        """
        found = self._networks.find(address, source)
        if found.site is None and sender and self._latencies is not None:
            timed = self._latencies.find(address, self._sites)
            if timed:
                reasons = tuple(f"{ms:.1f} ms from its resolver" for _, ms in timed)
                return Near(tuple(site for site, _ in timed), BITS[address.version], reasons)
        if found.site is not None or not self._places:
            sites = (found.site,) if found.site is not None else ()
            return Near(sites, found.scope, ("its network",) * len(sites))
        placed = self._placed(address, source)
        return Near(placed.sites, max(found.scope, placed.scope), placed.reasons)

    def _placed(self, address: Ip, source: int) -> Near:
        assert self._database is not None  # noqa: S101 - see __init__
        rest = BITS[address.version] - source
        try:
            where, scope = self._database.find(type(address)(int(address) >> rest << rest))
        except (ValueError, OSError):  # of a damaged file; it has passed a trial when it was loaded
            self.failed += 1
            return Near((), BITS[address.version])
        ranked = preferred(self._places, where)
        return Near(tuple(site for site, _ in ranked), scope, tuple(why for _, why in ranked))
