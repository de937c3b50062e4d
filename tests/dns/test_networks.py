"""Preferences of client networks, and the scope for which an answer holds."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.networks import Networks


def networks(*pairs):
    return Networks((ip_network(network), site) for network, site in pairs)


def test_the_longest_prefix_decides():
    found = networks(("10.0.0.0/8", "a"), ("10.1.0.0/16", "b"), ("10.1.2.0/24", "a"))
    for address, site, scope in (
        ("10.1.2.3", "a", 24),
        ("10.1.3.3", "b", 24),
        ("10.1.128.1", "b", 17),
        ("10.0.0.1", "a", 16),
        ("10.128.0.1", "a", 9),
        ("11.0.0.1", None, 8),
        ("128.0.0.1", None, 1),
    ):
        preferred = found.find(ip_address(address))
        assert (preferred.site, preferred.scope) == (site, scope), address


def test_a_network_that_is_smaller_than_what_is_known_does_not_decide():
    found = networks(("10.0.0.0/8", "a"), ("10.1.2.0/24", "b"))
    assert found.find(ip_address("10.1.0.0"), 16).site == "a"
    assert found.find(ip_address("10.1.0.0"), 16).scope > 16, "the resolver is told to ask with more bits"
    assert found.find(ip_address("10.1.2.0"), 24).site == "b"
    assert found.find(ip_address("0.0.0.0"), 0).site is None


def test_families_are_apart():
    found = networks(("2001:db8::/32", "six"))
    assert found.find(ip_address("32.1.13.184")).site is None
    assert found.find(ip_address("32.1.13.184")).scope == 0
    assert (found.find(ip_address("2001:db8::1")).site, found.find(ip_address("2001:db8::1")).scope) == ("six", 32)


NETWORKS = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32), st.sampled_from("abc")), max_size=12).map(
    lambda many: [(ip_network((address >> (32 - n) << (32 - n) if n else 0, n)), site) for address, n, site in many]
)


@given(NETWORKS, st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_all_addresses_within_the_scope_get_the_same(pairs, number, known, noise):
    """RFC 7871 section 7.2.1: a resolver gives the answer to all clients within the scope."""
    found = Networks(pairs)
    address = IPv4Address(number)
    whole = found.find(address)
    holds = [(network, site) for network, site in reversed(pairs) if address in network]
    longest = max((network.prefixlen for network, _ in holds), default=None)
    wanted = [site for network, site in pairs if address in network and network.prefixlen == longest]
    assert whole.site == (wanted[0] if wanted else None)
    rest = 32 - whole.scope
    other = IPv4Address((number >> rest << rest) | (noise & ((1 << rest) - 1)))
    assert found.find(other) == whole
    part = found.find(address, known)
    if part.scope <= known:
        assert part == found.find(IPv4Address(number >> (32 - known) << (32 - known) if known else 0))


@given(st.integers(0, 2**128 - 1))
def test_sixteen_bytes(number):
    found = networks(("::/1", "low"), ("8000::/1", "high"))
    assert found.find(IPv6Address(number)).site == ("high" if number >> 127 else "low")
    assert found.find(IPv6Address(number)).scope == 1
