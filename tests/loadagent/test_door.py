from ipaddress import ip_network

import pytest

from loadagent.door import MAX_CONNECTIONS, PER_SOURCE, Door


def inside(door: Door, addresses: list[str]) -> list[int]:
    """Let in clients of these addresses, one after the other; those, by their numbers, that are still there."""
    left = dict.fromkeys(range(len(addresses)))
    for number, address in enumerate(addresses):
        door.enter(number, address, lambda number=number: left.pop(number))  # type: ignore[misc]
    return list(left)


def test_a_source_with_too_many_loses_its_own_oldest() -> None:
    clients = ["10.0.0.1"] + ["10.0.0.2"] * (PER_SOURCE + 2)
    assert inside(Door(), clients) == [0, *range(3, PER_SOURCE + 3)]


def test_when_the_agent_is_full_the_source_with_most_loses_its_oldest() -> None:
    few = [f"10.0.{source}.1" for source in range(MAX_CONNECTIONS - PER_SOURCE)]
    left = inside(Door(), [*few, *["10.9.0.1"] * PER_SOURCE, "10.9.0.2"])
    assert left == [number for number in range(MAX_CONNECTIONS + 1) if number != len(few)]


def test_among_sources_with_one_each_the_oldest_goes() -> None:
    assert inside(Door(), [f"10.0.{source}.1" for source in range(MAX_CONNECTIONS + 5)])[0] == 5


def test_an_ipv6_network_of_64_bits_is_one_source() -> None:
    assert len(inside(Door(), [f"fd00::{host:x}" for host in range(50)])) == PER_SOURCE
    assert len(inside(Door(), [f"::ffff:10.0.0.{host}" for host in range(50)])) == 50


def test_who_leaves_makes_room_and_nothing_is_kept() -> None:
    door = Door()
    for number in range(10_000):
        door.enter(number, f"10.0.{number % 200}.1", lambda: pytest.fail("there is room"))
        door.leave(number)
        door.leave(number)
    assert not door._inside
    assert not door._of


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", "172.31.0.1", "192.168.7.9", "fd12::1",
                                     "fe80::1%eth0", "::ffff:10.0.0.1", "100.64.0.1"])  # fmt: skip
def test_private_networks_may_ask_unless_told_otherwise(address: str) -> None:
    assert Door().allows(address)
    assert not Door([ip_network("203.0.113.0/24")]).allows(address)


@pytest.mark.parametrize("address", ["203.0.113.7", "8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"])
def test_the_internet_may_not(address: str) -> None:
    assert not Door().allows(address)
    assert Door([ip_network("0.0.0.0/0"), ip_network("::/0")]).allows(address)
