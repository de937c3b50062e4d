"""Which sites are near a client, and why: by its network, or by the place where a MaxMind file has it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
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


NOT_KNOWN: Final = Near()


class Nearest:
    """What a name knows of the clients that are near its sites."""

    def __init__(
        self, networks: Networks, places: Mapping[str, Place] | None = None, database: Database | None = None
    ) -> None:
        self._networks = networks
        self._places = tuple((places or {}).items()) if database is not None else ()
        self._database = database
        self.failed = 0
        """Lookups in the MaxMind file that have failed: it is damaged."""

    def __bool__(self) -> bool:
        """Whether anything is known of any client."""
        return bool(self._networks or self._places)

    def find(self, address: Ip, source: int) -> Near:
        """The sites near a client of which the first `source` bits are known. Networks decide before places."""
        found = self._networks.find(address, source)
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
