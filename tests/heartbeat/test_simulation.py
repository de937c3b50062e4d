"""Random schedules of faults. A failure prints the seed; HEARTBEAT_SEED=n runs that one alone.

`make schedules` plays thousands of them.
"""

import os
import random
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

from gateway.heartbeat.beat import AdminState, Codec
from gateway.heartbeat.node import Shared
from gateway.heartbeat.ownership import State
from tests.heartbeat.simulator import OTHER, VIP, Cluster, TwoOwners

pytestmark = pytest.mark.slow

SCHEDULES = int(os.environ.get("HEARTBEAT_SCHEDULES", "0"))
"""So many are played instead of the chosen ones."""
SEED = os.environ.get("HEARTBEAT_SEED")
# fmt: off
CHOSEN = (
    2, 3, 16, 19, 23, 30, 41, 42, 44, 60, 62, 71, 74, 75, 80, 81, 85, 97, 101, 115, 122, 133, 147, 149, 150, 153,
    162, 199, 203, 212, 218, 228, 230, 232, 248, 250, 252, 253, 254, 266, 267, 269, 290, 293, 300, 304, 305, 308,
    324, 353, 355, 359, 362, 375, 376, 382, 384, 388, 389,
)
# fmt: on
"""Schedules that meet every situation that the first 400 meet, by situations.py."""


def cluster_of(seed):
    """A cluster of two or three nodes with a witness, or three without one."""
    chance = random.Random(f"shape {seed}")
    nodes = ("gw1", "gw2", "gw3")[: chance.choice((2, 2, 3))]
    addresses = (
        Shared(VIP, nodes, failback=chance.random() < 0.5),
        Shared(OTHER, nodes[::-1], failback=chance.random() < 0.5),
    )[: chance.choice((1, 1, 2))]
    interval, lease = chance.choice(((0.1, 0.4), (0.02, 0.08), (0.1, 0.25)))
    witness = len(nodes) == 2 or chance.random() < 0.5
    disk = witness and chance.random() < 0.4
    cluster = Cluster(seed, nodes, witness=witness, disk=disk, addresses=addresses, interval=interval, lease=lease)
    cluster.stumble = chance.choice((0.0, 0.002))
    if seed % 50 == 0:
        cluster.codec = Codec(b"0123456789abcdef")
    return cluster


def all_owned(cluster):
    return all(cluster.owners(shared.address) for shared in cluster.addresses)


def play(seed):
    """A schedule of faults, then none: a node must own every address within the bound."""
    cluster = cluster_of(seed)
    try:
        for _ in range(cluster.random.randrange(3, 15)):
            cluster.run(cluster.random.uniform(0.0, 10 * cluster.lease) * cluster.random.random())
            cluster.disturb()
        cluster.stumble = 0.0
        cluster.heal()
        cluster.revive()
        for host in cluster.hosts.values():
            host.fitness = 200
            if host.node is not None:
                host.node.set_admin_state(AdminState.JOIN, host.clock())
                for address in host.kernel:
                    host.node.set_fitness(address, 200, "serving", host.clock())
                host.work()
        if cluster.random.random() < 0.5:  # a majority is enough
            cluster.hosts[cluster.random.choice(cluster.names)].kill()
        cluster.run(1.0)  # beats that are still on their way
        bound = 6 * cluster.lease + 6.0
        assert cluster.run(bound, lambda: all_owned(cluster)), f"no node owns an address after {bound} s"
    except AssertionError as error:
        return f"HEARTBEAT_SEED={seed}: {error}"
    return ""


@pytest.mark.timeout(600 + SCHEDULES)
def test_an_address_never_has_two_owners_and_without_faults_it_has_one():
    seeds = [int(SEED)] if SEED else range(SCHEDULES) or CHOSEN
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        failures = [failure for failure in pool.map(play, seeds, chunksize=4) if failure]
    assert not failures, "\n".join(failures)


def test_a_lease_on_a_disk_is_a_third_vote():
    for seed in range(20):
        cluster = Cluster(seed, disk=True)
        cluster.run(3.0)
        assert cluster.owners(VIP) == ["gw1"]
        cluster.separate(["gw1"], ["gw2"])
        cluster.run(3.0)
        assert cluster.owners(VIP) == ["gw1"], "the node with the disk's vote keeps it"
        cluster.weather.no_disk = {"gw1"}
        assert cluster.run(2.0, partial(follows, cluster)), f"seed {seed}: the other side still has the disk"
        cluster.heal()
        cluster.run(2.0)
        assert cluster.owners(VIP) == ["gw2"]
        cluster.weather.no_disk = {"gw1", "gw2"}
        cluster.run(2.0)
        assert cluster.owners(VIP) == ["gw2"], "two nodes that see each other need no disk"
        cluster.hosts["gw2"].kill()
        cluster.run(2.0)
        assert cluster.owners(VIP) == [], "one vote of three is not enough"
        cluster.heal()
        assert cluster.run(2.0, partial(all_owned, cluster))
        assert cluster.owners(VIP) == ["gw1"]


def test_two_that_hear_nothing_but_the_disk_agree_who_has_its_vote():
    for seed in range(60):
        cluster = Cluster(seed, disk=True)
        cluster.separate(["gw1"], ["gw2"])
        assert cluster.run(6.0, partial(all_owned, cluster)), f"seed {seed}"
        owner = cluster.owners(VIP)
        cluster.run(3.0)
        assert cluster.owners(VIP) == owner


def follows(cluster):
    return cluster.owners(VIP) == ["gw2"]


@pytest.mark.parametrize("disk", [False, True])
def test_an_owner_whose_clock_stood_still_releases_the_address_when_it_hears_of_another(disk):
    both = []
    for seed in range(40):
        cluster = Cluster(seed, disk=disk)
        cluster.run(3.0)
        cluster.pause(cluster.hosts["gw1"], 2.0)
        assert cluster.run(1.9, partial(follows, cluster))
        cluster.run(5.0)
        assert [name for _, name in cluster.owner[VIP]][-2:] == [None, "gw2"], f"seed {seed}: it moves once"
        both.append(cluster.both)
    assert any(both), "for a moment it cannot know"
    assert max(both) < 0.1 + 0.05  # the beat that is due


@pytest.mark.parametrize("disk", [False, True])
def test_an_isolated_owner_whose_clock_stood_still_releases_the_address_within_a_lease(disk):
    for seed in range(20):
        cluster = Cluster(seed, disk=disk)
        cluster.run(3.0)
        cluster.pause(cluster.hosts["gw1"], 2.0)
        cluster.separate(["gw1"], ["gw2", *([] if disk else ["witness"])])
        assert cluster.run(1.9, partial(follows, cluster))
        cluster.run(5.0)
        assert all_owned(cluster)
        assert disk or cluster.owners(VIP) == ["gw2"]


def test_a_voter_whose_clock_stood_still_only_keeps_its_promise_for_longer():
    cluster = Cluster(1)
    cluster.run(3.0)
    cluster.pause(cluster.hosts["witness"], 2.0)
    cluster.pause(cluster.hosts["gw2"], 1.0)
    cluster.run(5.0)
    assert cluster.both == 0.0
    assert cluster.owners(VIP) == ["gw1"]


def test_killed_owner_is_followed_within_a_lease():
    outages = []
    for seed in range(60):
        cluster = Cluster(seed)
        cluster.run(3.0 + seed / 60 * 0.1)
        assert cluster.owners(VIP) == ["gw1"]
        cluster.hosts["gw1"].kill()
        killed = cluster.now
        assert cluster.run(2.0, partial(follows, cluster))
        outages.append(cluster.now - killed)
    assert max(outages) < 0.4 + 0.1
    assert statistics.median(outages) < 0.4


@pytest.mark.parametrize("nodes", [("gw1", "gw2"), ("gw1", "gw2", "gw3")])
def test_votes_are_there_and_the_address_is_probed_when_the_owner_has_been_silent_for_a_lease(nodes):
    for seed in range(30):
        cluster = Cluster(seed, nodes, witness=len(nodes) == 2)
        cluster.run(3.0 + seed / 30 * 0.1)
        cluster.hosts["gw1"].kill()
        gw2 = cluster.hosts["gw2"]
        assert cluster.run(1.0, lambda: gw2.running.holdings[VIP].state is State.OWNER)  # noqa: B023 - called here
        last = gw2.running.membership.peers["gw1"].heard
        assert 0.4 <= gw2.clock() - last < 0.4 + 0.012, f"seed {seed}"
        assert 0.38 <= gw2.probed[VIP] - last < 0.39, f"seed {seed}"
        assert all(VIP not in host.probed for host in cluster.hosts.values() if host is not gw2), "only by the next one"


def test_an_owner_that_is_heard_is_not_probed():
    cluster = Cluster(2)
    cluster.run(10.0)
    assert not any(host.probed for host in cluster.hosts.values())


@pytest.mark.parametrize("witness", [True, False])
def test_twenty_percent_loss_for_a_minute_moves_nothing(witness):
    for seed in range(4):
        cluster = Cluster(seed, witness=witness)
        cluster.weather.cut |= {("b", s, t) for s in cluster.hosts for t in cluster.hosts}  # one link only
        cluster.run(3.0)
        cluster.weather.loss = 0.2
        cluster.run(60.0)
        assert [name for _, name in cluster.owner[VIP]] == [None, "gw1"], f"seed {seed}"


def test_the_side_with_the_witness_goes_on():
    cluster = Cluster(1)
    cluster.run(3.0)
    cluster.separate(["gw1"], ["gw2", "witness"])
    cluster.run(3.0)
    assert cluster.owners(VIP) == ["gw2"]
    assert cluster.hosts["gw1"].running.holdings[VIP].state is State.BACKUP
    cluster.heal()
    cluster.run(3.0)
    assert cluster.owners(VIP) == ["gw2"]


def test_failback_returns_the_address_without_a_gap_of_a_beat():
    cluster = Cluster(2, addresses=(Shared(VIP, ("gw1", "gw2"), failback=True),))
    cluster.run(3.0)
    cluster.hosts["gw1"].kill()
    cluster.run(3.0)
    assert cluster.owners(VIP) == ["gw2"]
    cluster.hosts["gw1"].start()
    cluster.run(4.0)
    assert cluster.owners(VIP) == ["gw1"]
    (left, none), (taken, _) = cluster.owner[VIP][-2:]
    assert none is None
    assert taken - left < 0.05


def test_one_of_two_links_cut_moves_nothing():
    cluster = Cluster(3)
    cluster.run(3.0)
    cluster.separate(["gw1"], ["gw2"], ["witness"], links=("a",))
    cluster.run(10.0)
    assert [name for _, name in cluster.owner[VIP]] == [None, "gw1"]


@pytest.mark.parametrize("disk", [True, False])
def test_an_upgrade_moves_no_address(disk):
    for seed in range(20):
        cluster = Cluster(seed, disk=disk)
        cluster.run(3.0)
        for name in ("gw1", "gw2", "gw1"):
            cluster.hosts[name].upgrade(0.05)
            cluster.run(1.0)
        assert [name for _, name in cluster.owner[VIP]] == [None, "gw1"], f"seed {seed}"
        assert cluster.upgrades == 3
        cluster.hosts["gw1"].kill()
        assert cluster.run(2.0, partial(follows, cluster))


def test_frozen_owner_has_nothing_when_it_wakes_up():
    cluster = Cluster(4)
    cluster.run(3.0)
    cluster.freeze(cluster.hosts["gw1"], 2.0)
    assert cluster.run(0.6, lambda: cluster.owners(VIP) == ["gw2"])
    cluster.run(4.0)
    assert cluster.owners(VIP) == ["gw2"]
    assert not cluster.hosts["gw1"].kernel[VIP].up


def test_a_fitter_node_gets_the_address_and_an_equal_one_does_not():
    cluster = Cluster(5)
    cluster.run(3.0)
    gw1 = cluster.hosts["gw1"]
    gw1.running.set_fitness(VIP, 100, "one of two backends is down", gw1.clock())
    gw1.work()
    cluster.run(3.0)
    assert cluster.owners(VIP) == ["gw2"]
    gw1.running.set_fitness(VIP, 200, "serving", gw1.clock())
    gw1.work()
    cluster.run(3.0)
    assert cluster.owners(VIP) == ["gw2"]


def test_drained_node_gives_its_addresses_one_after_the_other():
    nodes = ("gw1", "gw2")
    cluster = Cluster(6, addresses=(Shared(VIP, nodes), Shared(OTHER, nodes)))
    cluster.run(3.0)
    gw1 = cluster.hosts["gw1"]
    gw1.running.set_admin_state(AdminState.DRAIN, gw1.clock())
    gw1.work()
    cluster.run(3.0)
    assert cluster.owners(VIP) == cluster.owners(OTHER) == ["gw2"]
    first_taken = cluster.owner[VIP][-1][0]
    second_left = cluster.owner[OTHER][-2][0]
    assert first_taken < second_left


def test_without_a_witness_two_sides_own_it_and_agree_when_they_meet_again():
    cluster = Cluster(7, witness=False)
    cluster.run(3.0)
    cluster.separate(["gw1"], ["gw2"])
    with pytest.raises(TwoOwners):
        cluster.run(3.0)
    cluster.heal()
    for _ in range(2000):  # both own it until they hear of each other
        try:
            cluster.run(0.001)
        except TwoOwners:
            continue
    cluster.run(2.0)
    assert cluster.owners(VIP) == ["gw1"]


def test_without_a_witness_the_side_without_its_router_keeps_quiet():
    cluster = Cluster(8, witness=False)
    cluster.run(3.0)
    cluster.hosts["gw1"].running.alone_allowed = False
    cluster.separate(["gw1"], ["gw2"])
    cluster.run(3.0)
    assert cluster.owners(VIP) == ["gw2"]
