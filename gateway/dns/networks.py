"""Which site a client network prefers, and for how many clients that holds (the scope of RFC 7871). Pure."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

Net: TypeAlias = IPv4Network | IPv6Network
Ip: TypeAlias = IPv4Address | IPv6Address

BITS: Final = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Preferred:
    """The site of a client, None without one; `scope`: bits of its address for which nothing else would be said."""

    site: str | None
    scope: int


class _Table:
    """Networks of one family as intervals: `starts` in ascending order, `sites` of the addresses from there on."""

    def __init__(self, networks: Iterable[tuple[int, int, str]], bits: int) -> None:
        """`networks`: (first address, prefix length, site). Longer prefixes decide."""
        self.bits = bits
        self.starts: list[int] = [0]
        self.sites: list[str | None] = [None]
        stack: list[tuple[int, str | None]] = [(1 << bits, None)]  # (end, site) of the networks that are open
        for first, length, site in sorted(networks):
            while stack[-1][0] <= first:
                self._close(stack)
            self._from(first, site)
            stack.append((first + (1 << (bits - length)), site))
        while len(stack) > 1:
            self._close(stack)

    def _close(self, stack: list[tuple[int, str | None]]) -> None:
        end, _ = stack.pop()
        if end < 1 << self.bits:
            self._from(end, stack[-1][1])

    def _from(self, start: int, site: str | None) -> None:
        if self.starts[-1] == start:
            self.starts.pop()
            self.sites.pop()
        if not self.sites or self.sites[-1] != site:
            self.starts.append(start)
            self.sites.append(site)

    def find(self, address: int) -> Preferred:
        """The site of an address; the scope is the largest block around it that is all of that site."""
        at = bisect_right(self.starts, address) - 1
        begin = self.starts[at]
        end = self.starts[at + 1] if at + 1 < len(self.starts) else 1 << self.bits
        # With the length of the prefix, its block shrinks: search for the first one that fits.
        low, high = 0, self.bits
        while low < high:
            length = (low + high) // 2
            size = 1 << (self.bits - length)
            first = address & ~(size - 1)
            if first >= begin and first + size <= end:
                high = length
            else:
                low = length + 1
        return Preferred(self.sites[at], low)


class Networks:
    """The preferences of one name."""

    def __init__(self, networks: Iterable[tuple[Net, str]]) -> None:
        """The first of two entries for the same network holds."""
        given: dict[tuple[int, int, int], str] = {}
        for network, site in networks:
            given.setdefault((network.version, int(network.network_address), network.prefixlen), site)
        self._given = given
        self._lengths = {version: {n for v, _, n in given if v == version} for version in BITS}
        self._tables: dict[tuple[int, int], _Table] = {}

    def __bool__(self) -> bool:
        return bool(self._given)

    def find(self, address: Ip, source: int | None = None) -> Preferred:
        """The site of a client of which the first `source` bits are known; None: all.

        Networks that are smaller than what is known do not decide, but narrow the scope.
        """
        bits = BITS[address.version]
        known = bits if source is None else source
        number = int(address) >> (bits - known) << (bits - known)
        full = self._table(address.version, bits).find(number)
        if full.scope <= known:
            return full
        return Preferred(self._table(address.version, known).find(number).site, full.scope)

    def _table(self, version: int, known: int) -> _Table:
        """Networks whose prefixes are not longer than that."""
        longest = max((length for length in self._lengths[version] if length <= known), default=0)
        table = self._tables.get((version, longest))
        if table is None:
            chosen = [(first, n, site) for (v, first, n), site in self._given.items() if v == version and n <= longest]
            table = self._tables[version, longest] = _Table(chosen, BITS[version])
        return table
