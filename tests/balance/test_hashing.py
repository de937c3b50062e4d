"""Whom a key belongs to: the same everywhere, by weight, and it moves only where it must."""

from collections import Counter
from collections.abc import Sequence
from math import log1p, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balance.hashing import key_of
from gateway.balance.policies import new_policy
from gateway.balance.policy import Members
from gateway.board import DOWN, UP, Board

Weights = Sequence[tuple[str, float]]
"""Name and weight of each server."""

WORD = 0xFFFFFFFF
KEYS = [key_of(b"key %d" % number) for number in range(4000)]
FARMS = [3, 40, 200]


class Farm:
    """Servers and a hash policy; they are known by their names, whatever their order."""

    def __init__(self, servers: Weights, workers: int = 1, backups: Weights = ()) -> None:
        self.board = Board()
        self.names = [name for name, _ in (*servers, *backups)]
        rows = [(slot, weight, 0, False, name) for slot, (name, weight) in enumerate(servers)]
        rows += [(len(rows) + slot, weight, 0, True, name) for slot, (name, weight) in enumerate(backups)]
        self.members = Members(self.board, rows, workers)
        self.policy = new_policy("source-hash")

    def home(self, key: int, *tried: str, now: int = 0) -> str:
        chosen = self.policy.choose(self.members, [self.names.index(name) for name in tried], now, key)
        return self.names[chosen] if chosen >= 0 else ""

    def homes(self) -> list[str]:
        return [self.home(key) for key in KEYS]

    def set_state(self, name: str, state: int) -> None:
        self.board.set_state(self.names.index(name), state)


def equals(count: int) -> Weights:
    return [(f"app{number}", 1.0) for number in range(count)]


def moved(before: list[str], after: list[str]) -> list[tuple[str, str]]:
    return [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]


def drawn(key: int, name: str, weight: float) -> float:
    """What a server draws, written down plainly."""
    server = key_of(name.encode())
    x = ((server ^ key) & WORD) * 0x85EBCA6B & WORD
    x ^= x >> 15
    x = (x + ((server ^ key) >> 32)) * 0xC2B2AE35 & WORD
    x ^= x >> 13
    x = x * 0x27D4EB2F & WORD
    x ^= x >> 16
    return -log1p(-(x >> 1 | 1) / 2**31) / weight


@given(
    weights=st.lists(
        st.sampled_from([0.1, 1.0, 1.0, 1.0, 2.5, 100.0]) | st.floats(0.01, 1000), min_size=1, max_size=150
    ),
    key=st.integers(1, 2**64 - 1),
)
def test_the_smallest_draw_wins_and_the_next_one_follows(weights: list[float], key: int) -> None:
    servers = [(f"app{number}", weight) for number, weight in enumerate(weights)]
    farm = Farm(servers)
    order = sorted(servers, key=lambda server: drawn(key, *server))
    names = [name for name, _ in order]
    for count in range(min(len(names), 8)):
        assert farm.home(key, *names[:count]) == names[count]


@pytest.mark.parametrize("count", FARMS)
def test_a_server_that_leaves_and_returns_moves_its_own_keys_only(count: int) -> None:
    farm = Farm(equals(count))
    before = farm.homes()
    farm.set_state("app1", DOWN)
    gone = moved(before, farm.homes())
    assert {old for old, _ in gone} == {"app1"}
    assert len(gone) == before.count("app1")
    assert len({new for _, new in gone}) >= min(count - 1, len(gone)) / 2  # not all to the same
    farm.set_state("app1", UP)
    assert farm.homes() == before


@pytest.mark.parametrize("count", FARMS)
def test_a_server_that_is_new_takes_its_share_from_all_and_moves_nothing_else(count: int) -> None:
    before, after = Farm(equals(count)).homes(), Farm(equals(count + 1)).homes()
    came = moved(before, after)
    assert {new for _, new in came} == {f"app{count}"}
    share = len(KEYS) / (count + 1)
    assert abs(len(came) - share) < 5 * sqrt(share)


@pytest.mark.parametrize("count", FARMS)
def test_more_weight_only_draws_keys_and_less_only_loses_them(count: int) -> None:
    light = equals(count)
    heavy = [(name, 3.0 if name == "app1" else weight) for name, weight in light]
    for old, new in moved(Farm(light).homes(), Farm(heavy).homes()):
        assert new == "app1" != old


@pytest.mark.parametrize("count", FARMS)
def test_shares_are_those_of_the_weights(count: int) -> None:
    """Up to what chance makes of 4,000 keys: five standard deviations."""
    servers = [(f"app{number}", float(1 + number % 4)) for number in range(count)]
    total = sum(weight for _, weight in servers)
    found = Counter(Farm(servers).homes())
    for name, weight in servers:
        share = len(KEYS) * weight / total
        assert abs(found[name] - share) < 5 * sqrt(share)
    shares = {name: len(KEYS) * weight / total for name, weight in servers}
    squares = sum((found[name] - share) ** 2 / share for name, share in shares.items())
    assert squares < count + 5 * sqrt(2 * count)  # chi-square: no pattern beyond chance in all of them together


@pytest.mark.parametrize("count", FARMS)
def test_all_workers_and_gateways_agree(count: int) -> None:
    servers = equals(count)
    one = Farm(servers, workers=4, backups=[("spare", 1.0)]).homes()
    assert one == Farm(servers[::-1]).homes()
    assert one == Farm([*servers[count // 2 :], *servers[: count // 2]], workers=2).homes()


@pytest.mark.parametrize("count", FARMS)
def test_backups_have_an_order_of_their_own(count: int) -> None:
    farm = Farm(equals(count), backups=[("spare0", 1.0), ("spare1", 1.0)])
    for name, _ in equals(count):
        farm.set_state(name, DOWN)
    assert farm.homes() == Farm([("spare0", 1.0), ("spare1", 1.0)]).homes()


@pytest.mark.parametrize("now", [0, 1_000_000_000])
@pytest.mark.parametrize("count", FARMS)
def test_a_popular_key_spreads_over_the_next_in_its_order(count: int, now: int) -> None:
    """Nobody has more than 1.25 times its share, or four; sums of the same moment may be a little old."""
    farm = Farm(equals(count), workers=2)
    picked = Counter[str]()
    key = KEYS[0]
    order = [farm.home(key)]
    for step in range(8 * count):
        name = farm.home(key, now=now and now + step * 1_000_000)
        assert name
        if name not in order:
            order.append(name)
        picked[name] += 1
        farm.board.add_in_flight(farm.names.index(name), step % 2, 1)
    assert max(picked.values()) <= 1.25 * 8 + 1
    assert order[: min(count, 8)] == sorted(farm.names, key=lambda name: drawn(key, name, 1.0))[: min(count, 8)]


def test_if_all_servers_are_full_none_is_picked_and_the_last_one_with_room_is_found() -> None:
    farm = Farm(equals(200))
    for name in farm.names:
        farm.set_state(name, DOWN)
    assert set(farm.homes()) == {""}
    farm.set_state("app77", UP)
    farm.board.add_in_flight(77, 0, 50)
    assert set(farm.homes()) == {"app77"}
