"""The division of sessions between the gateways of a cluster."""

import random

import pytest

from qos.shares import SILENT, Shares

MOST = 100
IDLE = 600.0


class Cluster:
    """Gateways that hear each other unless they are `apart`; each admits what its share lets it, at once."""

    def __init__(self, *names: str) -> None:
        self.now = 0.0
        self.shares = {name: Shares(name, names, 0.0) for name in names}
        self.live = dict.fromkeys(names, 0)
        self.wanting = dict.fromkeys(names, 0)
        self.adopted = dict.fromkeys(names, 0)
        self.apart: set[str] = set()
        self.dead: set[str] = set()

    def step(self, seconds: float = 0.1) -> None:
        self.now += seconds
        alive = [name for name in self.shares if name not in self.dead]
        for name in alive:
            self.shares[name].say(self.live[name], self.wanting[name], self.adopted[name], self.now)
            for other in alive:
                if other != name and (other in self.apart) == (name in self.apart):
                    self.shares[other].hear(name, self.live[name], self.wanting[name], self.now)
        for name in alive:
            room = self.shares[name].share(MOST, IDLE, self.now) - self.live[name]
            entering = max(0, min(room, self.wanting[name]))
            self.live[name] += entering
            self.wanting[name] -= entering

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    @property
    def total(self) -> int:
        return sum(count for name, count in self.live.items() if name not in self.dead)


def test_all_together_have_what_one_may_have() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.wanting = {"a": 90, "b": 90, "c": 0}
    for _ in range(20):
        cluster.step()
        assert cluster.total <= MOST
    assert cluster.total == MOST


def test_what_one_does_not_need_is_used_by_others() -> None:
    cluster = Cluster("a", "b")
    cluster.wanting["a"] = 200
    cluster.steps(30)
    assert cluster.live == {"a": MOST, "b": 0}
    cluster.live["a"] -= 10
    cluster.wanting = {"a": 0, "b": 50}
    cluster.steps(30)
    assert cluster.live == {"a": 90, "b": 10}


def test_messages_that_are_lost_or_late_cost_what_one_interval_admits() -> None:
    chance = random.Random(4)
    for _ in range(50):
        cluster = Cluster("a", "b")
        admitted = 0
        for _ in range(40):
            cluster.apart = {"a"} if chance.random() < 0.3 else set()
            for name in cluster.live:
                cluster.live[name] -= min(cluster.live[name], chance.randrange(3))
                cluster.wanting[name] = chance.randrange(30)
            before = cluster.total
            cluster.step()
            admitted = max(admitted, cluster.total - before)
            assert cluster.total <= MOST + 2 * admitted


def test_a_partition_lets_in_what_was_free_once_for_each_part() -> None:
    cluster = Cluster("a", "b")
    cluster.wanting = {"a": 40, "b": 40}
    cluster.steps(20)
    assert cluster.total == 80
    cluster.apart = {"a"}
    cluster.wanting = {"a": 200, "b": 200}
    cluster.steps(100)
    assert cluster.total == MOST + 20  # the 20 that were free, in both parts
    cluster.apart = set()
    cluster.steps(10)
    assert cluster.total == MOST + 20  # no session is ended
    cluster.live["a"] -= 30
    cluster.steps(10)
    assert cluster.total == MOST


def test_a_full_cluster_admits_no_more_in_a_partition() -> None:
    cluster = Cluster("a", "b")
    cluster.wanting = {"a": 300, "b": 300}
    cluster.steps(30)
    cluster.apart = {"a"}
    cluster.steps(100)
    assert cluster.total == MOST
    cluster.live["b"] -= 7
    cluster.steps(10)
    assert cluster.total == MOST  # each part gives its own places out again
    assert cluster.live["b"] == 50


def test_sessions_of_a_dead_gateway_keep_their_places_until_they_have_come_back() -> None:
    cluster = Cluster("a", "b")
    cluster.wanting = {"a": 50, "b": 50}
    cluster.steps(30)
    cluster.dead = {"b"}
    cluster.wanting["a"] = 500
    cluster.steps(30)
    assert cluster.live["a"] == 50
    cluster.live["a"] += 30  # come back, and are let in whatever the share
    cluster.adopted["a"] += 30
    cluster.steps(30)
    assert cluster.live["a"] == 80
    cluster.now += IDLE
    cluster.steps(3)
    assert cluster.live["a"] == MOST  # 20 never came back


def test_who_has_not_spoken_yet_is_waited_for() -> None:
    shares = Shares("a", ("a", "b"), 0.0)
    assert shares.share(MOST, IDLE, 0.1) == 50
    assert shares.silent(0.1) == []
    assert shares.share(MOST, IDLE, 0.1 + SILENT) == MOST
    assert shares.silent(0.1 + SILENT) == ["b"]


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_few_sessions_are_divided_without_a_rest(most: int) -> None:
    names = ("a", "b", "c")
    assert sum(Shares(name, names, 0.0).share(most, IDLE, 0.0) for name in names) == most


def test_messages_of_unknown_nodes_are_ignored() -> None:
    shares = Shares("a", ("a", "b"), 0.0)
    shares.hear("x", 1000, 1000, 0.0)
    assert shares.share(MOST, IDLE, 0.1) == 50
