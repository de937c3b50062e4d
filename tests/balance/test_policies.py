"""Balancing policies on a real board, without a socket."""

from collections import Counter

import pytest

from gateway.balance.policies import POLICIES
from gateway.balance.policy import Members, Policy
from gateway.board import DOWN, DRAIN, MAINTENANCE, READY, UP, Board

Row = tuple[int, float, int, bool]


class Farm:
    """Servers on a board; `send` gives a request to whom the policy picks and leaves it there."""

    def __init__(self, policy: str, *weights: float, limit: int = 0, backups: int = 0) -> None:
        self.board = Board()
        rows: list[Row] = [(slot, weight, limit, False) for slot, weight in enumerate(weights)]
        rows += [(len(weights) + i, 1.0, limit, True) for i in range(backups)]
        self.members = Members(self.board, rows, 4)
        self.policy: Policy = POLICIES[policy]()

    def pick(self, tried: tuple[int, ...] = ()) -> int:
        return self.policy.choose(self.members, tried)

    def send(self, requests: int, worker: int = 0) -> Counter[int]:
        picked = Counter[int]()
        for _ in range(requests):
            server = self.pick()
            picked[server] += 1
            self.board.add_in_flight(server, worker, 1)
        return picked


ALL = sorted(POLICIES)


@pytest.mark.parametrize("policy", ALL)
def test_equals_get_equal_shares_when_idle(policy: str) -> None:
    farm = Farm(policy, 1, 1, 1)
    assert Counter(farm.pick() for _ in range(300)) == {0: 100, 1: 100, 2: 100}


@pytest.mark.parametrize("policy", ALL)
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


def test_measured_follows_the_effective_weight() -> None:
    farm = Farm("measured", 1, 1)
    farm.board.set_weight(0, 3.0)
    assert farm.send(40) == {0: 30, 1: 10}


def test_the_others_do_not() -> None:
    for policy in ("weighted-least-connections", "least-connections"):
        farm = Farm(policy, 1, 1)
        farm.board.set_weight(0, 3.0)
        assert farm.send(40) == {0: 20, 1: 20}


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
    assert {farm.pick() for _ in range(20)} == {0, 1, 3}


@pytest.mark.parametrize("policy", ALL)
def test_backups_serve_only_while_nobody_else_can(policy: str) -> None:
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
