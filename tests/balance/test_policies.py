"""Balancing policies on a real board, without a socket."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.balance.hashing import key_of
from gateway.balance.policies import new_policy
from gateway.balance.policy import Members, Policy
from gateway.board import DOWN, DRAIN, MAINTENANCE, OUT, PROBED, READY, UP, Board
from gateway.config.policies import POLICIES

Row = tuple[int, float, int, bool, str]


class Farm:
    """Servers on a board; `send` gives a request to whom the policy picks and leaves it there."""

    def __init__(self, policy: str, *weights: float, limit: int = 0, backups: int = 0) -> None:
        self.board = Board()
        rows: list[Row] = [(slot, weight, limit, False, f"app{slot}") for slot, weight in enumerate(weights)]
        rows += [(len(weights) + i, 1.0, limit, True, f"spare{i}") for i in range(backups)]
        self.members = Members(self.board, rows, 4)
        self.policy: Policy = new_policy(policy)
        self.picks = 0

    def pick(self, tried: tuple[int, ...] = ()) -> int:
        self.picks += 1
        return self.policy.choose(self.members, tried, 0, key_of(b"%d" % self.picks))

    def send(self, requests: int, worker: int = 0) -> Counter[int]:
        picked = Counter[int]()
        for _ in range(requests):
            server = self.pick()
            picked[server] += 1
            self.board.add_in_flight(server, worker, 1)
        return picked


ALL = sorted(POLICIES)
IN_TURN = [name for name in ALL if name not in ("source-hash", "uri-hash", "two-choices")]


@pytest.mark.parametrize("policy", IN_TURN)
def test_equals_get_equal_shares_when_idle(policy: str) -> None:
    farm = Farm(policy, 1, 1, 1)
    assert Counter(farm.pick() for _ in range(300)) == {0: 100, 1: 100, 2: 100}


@pytest.mark.parametrize("policy", IN_TURN)
def test_equals_get_equal_shares_when_busy(policy: str) -> None:
    assert Farm(policy, 1, 1, 1).send(300) == {0: 100, 1: 100, 2: 100}


@pytest.mark.parametrize("policy", ["weighted-round-robin", "weighted-least-connections", "measured"])
def test_weights_count_idle_and_busy(policy: str) -> None:
    farm = Farm(policy, 4, 2, 1)
    assert Counter(farm.pick() for _ in range(70)) == {0: 40, 1: 20, 2: 10}
    assert farm.send(70) == {0: 40, 1: 20, 2: 10}


def test_weighted_round_robin_spreads_its_turns_evenly() -> None:
    farm = Farm("weighted-round-robin", 3, 1)
    turns = [farm.pick() for _ in range(8)]
    assert turns == [0, 0, 1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("policy", ["least-connections", "weighted-least-connections", "measured"])
def test_requests_of_other_workers_count(policy: str) -> None:
    farm = Farm(policy, 1, 1)
    farm.board.add_in_flight(0, 3, 10)
    assert farm.send(10) == {1: 10}


COMPARING = ["least-connections", "weighted-least-connections", "measured"]


@pytest.mark.parametrize("policy", COMPARING)
def test_of_a_thousand_servers_all_get_their_share(policy: str) -> None:
    """Though only some of them are looked at for a request."""
    picked = Farm(policy, *[1.0] * 1000).send(20_000)
    assert len(picked) == 1000
    assert max(picked.values()) - min(picked.values()) <= 4


def test_of_a_thousand_servers_the_weights_count() -> None:
    picked = Farm("measured", *[1.0] * 500, *[3.0] * 500).send(20_000)
    light, heavy = (sum(picked[slot] for slot in half) for half in (range(500), range(500, 1000)))
    assert 2.8 < heavy / light < 3.2


@pytest.mark.parametrize("policy", ALL)
def test_of_a_thousand_servers_the_few_that_are_up_are_found(policy: str) -> None:
    farm = Farm(policy, *[1.0] * 1000)
    up = {7, 500, 999}
    for slot in set(range(1000)) - up:
        farm.board.set_state(slot, DOWN)
    assert {farm.pick() for _ in range(300)} == up


@pytest.mark.parametrize("policy", ["measured", "weighted-least-connections", "weighted-round-robin"])
def test_weighted_policies_follow_the_effective_weight(policy: str) -> None:
    farm = Farm(policy, 1, 1)
    farm.board.set_weight(0, 3.0)
    assert farm.send(40) == {0: 30, 1: 10}


@pytest.mark.parametrize("policy", ["least-connections", "round-robin"])
def test_the_others_do_not(policy: str) -> None:
    farm = Farm(policy, 1, 1)
    farm.board.set_weight(0, 3.0)
    assert farm.send(40) == {0: 20, 1: 20}


@pytest.mark.parametrize("policy", ALL)
def test_an_agents_limit_counts_in_place_of_the_configured_one(policy: str) -> None:
    farm = Farm(policy, 1)
    farm.board.set_limit(0, 3)
    assert farm.send(3) == {0: 3}
    assert farm.pick() == -1
    farm.board.set_limit(0, 0)
    assert farm.pick() == 0


@pytest.mark.parametrize("policy", ALL)
def test_down_draining_and_tried_servers_get_nothing(policy: str) -> None:
    farm = Farm(policy, 1, 1, 1, 1)
    farm.board.set_state(0, DOWN)
    farm.board.set_admin(1, DRAIN)
    farm.board.set_admin(2, MAINTENANCE)
    assert {farm.pick() for _ in range(10)} == {3}
    assert farm.pick(tried=(3,)) == -1
    farm.board.set_state(0, UP)
    farm.board.set_admin(1, READY)
    assert {farm.pick() for _ in range(50)} == {0, 1, 3}
    farm.board.set_ejected(3, OUT)
    assert {farm.pick() for _ in range(50)} == {0, 1}


@pytest.mark.parametrize("policy", ALL)
def test_backups_serve_only_while_no_other_server_can(policy: str) -> None:
    farm = Farm(policy, 1, backups=1)
    assert {farm.pick() for _ in range(10)} == {0}
    farm.board.set_state(0, DOWN)
    assert {farm.pick() for _ in range(10)} == {1}


@pytest.mark.parametrize("policy", ALL)
def test_limits_hold_over_all_workers(policy: str) -> None:
    farm = Farm(policy, 1, 1, limit=3)
    farm.board.add_in_flight(0, 2, 2)
    assert farm.send(4) == {0: 1, 1: 3}
    assert farm.pick() == -1


@pytest.mark.parametrize("policy", ALL)
def test_an_ejected_server_is_probed_with_one_request_at_a_time(policy: str) -> None:
    farm = Farm(policy, 1, 1)
    farm.board.set_ejected(0, PROBED)
    assert farm.send(40)[0] == 1
    farm.board.add_in_flight(0, 0, -1)
    assert farm.send(40)[0] == 1


@pytest.mark.parametrize("policy", ALL)
def test_a_server_in_slow_start_takes_its_share_of_requests_in_flight(policy: str) -> None:
    farm = Farm(policy, 1, 1, 1)
    farm.board.set_ramp(0, 0.25)
    farm.board.add_in_flight(1, 0, 40)
    farm.board.add_in_flight(2, 0, 40)
    assert farm.send(60)[0] in range(10, 17)  # a quarter of 40 to 64
    farm.board.set_ramp(0, 0.0)
    assert farm.send(180)[0] > 40


def test_two_choices_takes_the_less_busy_for_its_weight() -> None:
    farm = Farm("two-choices", 1, 1, 1, 1)
    farm.board.add_in_flight(0, 0, 1000)
    assert farm.send(400)[0] == 0
    farm = Farm("two-choices", 3, 1)
    assert farm.send(400) == {0: 300, 1: 100}


def test_two_choices_keeps_loads_together_that_chance_alone_would_not() -> None:
    farm = Farm("two-choices", *[1] * 10)
    picked = farm.send(1000)
    assert len(picked) == 10
    assert max(picked.values()) - min(picked.values()) <= 10  # one choice: about 35


def test_a_key_keeps_its_server_whatever_the_order_of_the_site_file() -> None:
    names = [f"app{i}" for i in range(10)]
    homes = []
    for order in (names, names[::-1]):
        members = Members(Board(), [(slot, 1.0, 0, False, name) for slot, name in enumerate(order)], 1)
        policy = new_policy("source-hash")
        homes.append([order[policy.choose(members, (), 0, key_of(b"%d" % key))] for key in range(500)])
    assert homes[0] == homes[1]
    assert set(homes[0]) == set(names)


def test_adding_one_of_ten_servers_moves_about_a_tenth_of_the_keys() -> None:
    def homes(servers: int) -> list[int]:
        members = Members(Board(), [(slot, 1.0, 0, False, f"app{slot}") for slot in range(servers)], 1)
        policy = new_policy("uri-hash")
        return [policy.choose(members, (), 0, key_of(b"/page/%d" % key)) for key in range(5000)]

    before, after = homes(9), homes(10)
    moved = [new for old, new in zip(before, after, strict=True) if new != old]
    assert 0.08 < len(moved) / 5000 < 0.12
    assert set(moved) == {9}  # no other keys move
    counts = Counter(after)
    assert max(counts.values()) < 1.25 * min(counts.values())


def test_keys_are_shared_by_weight() -> None:
    members = Members(Board(), [(0, 3.0, 0, False, "big"), (1, 1.0, 0, False, "small")], 1)
    policy = new_policy("source-hash")
    picked = Counter(policy.choose(members, (), 0, key_of(b"%d" % key)) for key in range(4000))
    assert 0.72 < picked[0] / 4000 < 0.78


def test_one_popular_key_does_not_bury_its_server() -> None:
    farm = Farm("source-hash", 1, 1, 1, 1)
    key = key_of(b"192.0.2.1")
    picked = Counter[int]()
    for _ in range(400):
        server = farm.policy.choose(farm.members, (), 0, key)
        picked[server] += 1
        farm.board.add_in_flight(server, 0, 1)
    assert max(picked.values()) <= 1.25 * 100 + 1
    assert min(picked.values()) < 60  # it still is no round robin


def test_requests_without_the_header_are_shared_out() -> None:
    farm = Farm("least-connections", 1, 1, 1)
    farm.policy = new_policy("header:X-Tenant")
    picked = Counter[int]()
    for _ in range(30):
        server = farm.policy.choose(farm.members)
        picked[server] += 1
        farm.board.add_in_flight(server, 0, 1)
    assert picked == {0: 10, 1: 10, 2: 10}


@given(
    states=st.lists(st.sampled_from(["up", "down", "drain", "out", "full", "backup"]), min_size=1, max_size=6),
    loads=st.lists(st.integers(0, 30), min_size=6, max_size=6),
    key=st.integers(0, 2**64 - 1),
    name=st.sampled_from(ALL),
)
def test_every_policy_picks_only_servers_that_can_take_a_request(
    states: list[str], loads: list[int], key: int, name: str
) -> None:
    board = Board()
    rows: list[Row] = [
        (slot, 1.0 + slot, 31 if state == "full" else 0, state == "backup", f"app{slot}")
        for slot, state in enumerate(states)
    ]
    for slot, state in enumerate(states):
        board.add_in_flight(slot, slot % 2, 31 if state == "full" else loads[slot])
        if state == "down":
            board.set_state(slot, DOWN)
        if state == "drain":
            board.set_admin(slot, DRAIN)
        if state == "out":
            board.set_ejected(slot, OUT)
    can = {slot for slot, state in enumerate(states) if state == "up"}
    can = can or {slot for slot, state in enumerate(states) if state == "backup"}
    members = Members(board, rows, 2)
    chosen = new_policy(name)
    for _ in range(5):
        assert chosen.choose(members, (), 1, key) in (can or {-1})
