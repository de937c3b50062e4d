"""Who may connect to an agent, and who gives way when there are too many. Pure but for `close` of a connection.

The answer to a check takes a fifth of a second at most, so a connection that is still here is slow or busy with
nothing. When a source or the agent has its share of them, the oldest goes: of a source that has too many its own, else
of the source that has most. So slow connections push out each other, and not the next check.
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
"""Networks that the Internet does not lead to."""


class Door:
    """`allow`: networks whose addresses may connect."""

    def __init__(self, allow: Iterable[Network] = PRIVATE) -> None:
        self._allow = tuple(allow)
        self._inside: dict[object, tuple[str, Callable[[], None]]] = {}
        """Each connection: its source, and how to close it; the oldest first."""
        self._of: Counter[str] = Counter()

    def allows(self, address: str) -> bool:
        """Whether a client of this IP address may connect."""
        ip = ip_address(address.partition("%")[0])  # the zone of a link-local address
        ip = (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip
        return any(ip in network for network in self._allow)

    def enter(self, connection: object, address: str, close: Callable[[], None]) -> None:
        """Let one in; if there are too many, `close` of another one is called."""
        source = _source(address)
        if self._of[source] >= PER_SOURCE:
            self._evict(source)
        elif len(self._inside) >= MAX_CONNECTIONS:
            ((largest, _),) = self._of.most_common(1)
            self._evict(largest)
        self._inside[connection] = source, close
        self._of[source] += 1

    def leave(self, connection: object) -> None:
        """One is over, if it is still known."""
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
    """A client with one IPv6 address usually has its /64."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None:
        return str(IPv6Network((ip, 64), strict=False))
    return address
