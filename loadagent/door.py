"""Decides which clients may connect to an agent, and closes connections if there are too many. No other input or
output.

Answering takes a fifth of a second at most, so an older connection is slow or idle. When a source or the agent reaches
its limit of connections, the oldest is closed: of a source over its limit its own, else one of the source with the most
connections. So slow connections displace each other rather than the next check.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

MAX_CONNECTIONS: Final = 64
PER_SOURCE: Final = 8
Network = IPv4Network | IPv6Network

PRIVATE: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        (
            *("127.0.0.0/8", "::1/128"),  # this machine
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),  # RFC 1918, RFC 4193
            *("100.64.0.0/10", "169.254.0.0/16", "fe80::/10"),  # RFC 6598, RFC 3927, RFC 4291
        ),
    )
)
"""Networks that are not reachable from the Internet."""


class Door:
    """`allow`: networks whose addresses may connect."""

    def __init__(self, allow: Iterable[Network] = PRIVATE) -> None:
        self._allow = tuple(allow)
        self._inside: dict[object, tuple[str, Callable[[], None]]] = {}
        """Each connection: its source and a function that closes it; the oldest first."""
        self._of: Counter[str] = Counter()

    def allows(self, address: str) -> bool:
        """Whether a client of this IP address may connect."""
        ip = ip_address(address.partition("%")[0])  # the zone of a link-local address
        ip = (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip
        return any(ip in network for network in self._allow)

    def enter(self, connection: object, address: str, close: Callable[[], None]) -> None:
        """Register a connection; if there are too many, close another one by its `close`."""
        source = _source(address)
        if self._of[source] >= PER_SOURCE:
            self._evict(source)
        elif len(self._inside) >= MAX_CONNECTIONS:
            ((largest, _),) = self._of.most_common(1)
            self._evict(largest)
        self._inside[connection] = source, close
        self._of[source] += 1

    def leave(self, connection: object) -> None:
        """Forget a connection that has ended."""
        found = self._inside.pop(connection, None)
        if found is not None:
            source, _ = found
            self._of[source] -= 1
            if not self._of[source]:
                del self._of[source]

    def _evict(self, source: str) -> None:
        oldest = next(connection for connection, (whose, _) in self._inside.items() if whose == source)
        _, close = self._inside[oldest]
        self.leave(oldest)
        close()


def _source(address: str) -> str:
    """The source of an address: a client with one IPv6 address usually has its whole /64."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None:
        return str(IPv6Network((ip, 64), strict=False))
    return address
