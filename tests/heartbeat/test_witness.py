"""The third voice: side by side for several clusters, in bounded memory that invented names cannot use up."""

import itertools

import pytest

from gateway.config.cluster import MAX_NODES
from gateway.heartbeat.beat import Beat, Claim, Echo, Stake
from gateway.heartbeat.membership import Refused
from gateway.heartbeat.node import WITNESS
from gateway.heartbeat.witness import MAX_CLUSTERS, Witness

LEASE = 0.4
VIP = "192.0.2.10"


class Talk:
    """Nodes that talk to a witness, each as a process that knows what it was told."""

    def __init__(self):
        self.witness = Witness(LEASE, 7, 0.0)
        self.numbers = itertools.count(1)
        self.told = {}

    def say(self, node, now, cluster=b"", stake=Stake.ASKING, incarnation=1):
        """Send a beat; return the owner of the address according to the answer."""
        echoes = (Echo(WITNESS, 7, self.told[cluster, node], 0.0),) if (cluster, node) in self.told else ()
        claims = (Claim(VIP, stake, 1),)
        beat = Beat(node, incarnation, next(self.numbers), LEASE, 0.1, echoes=echoes, claims=claims, cluster=cluster)
        answer = self.witness.receive(beat, "udp", now)
        assert answer is not None
        assert answer.cluster == cluster
        assert answer.sequence > self.told.get((cluster, node), 0)
        self.told[cluster, node] = answer.sequence
        return [vote.candidate for vote in answer.votes]

    def greet(self, node, now, cluster=b""):
        """Twice, so that it is confirmed."""
        self.say(node, now, cluster)
        return self.say(node, now, cluster)


def test_clusters_with_the_same_names_and_addresses_do_not_meet():
    talk = Talk()
    for now in (1.0, 1.1, 1.2, 1.3):  # as processes of their own, with incarnations of their own
        for cluster, incarnation in ((b"a", 11), (b"b", 22)):
            owners = talk.say("gw1", now, cluster, incarnation=incarnation)
            assert owners == (["gw1"] if now > 1.0 else [])
    assert sorted((cluster, peer.alive) for cluster, peer in talk.witness.peers) == [(b"a", True), (b"b", True)]


def test_invented_nodes_give_way_to_true_ones():
    talk = Talk()
    talk.greet("true1", 1.0)
    for i in range(1000):
        talk.say(f"invented{i}", 1.0 + i / 10000)
    assert talk.greet("true2", 1.2) == ["true1"]
    assert len(talk.witness.peers) == MAX_NODES
    assert sorted(peer.name for _, peer in talk.witness.peers if peer.alive) == ["true1", "true2"]


def test_only_nodes_that_are_alive_keep_others_out():
    talk = Talk()
    for i in range(MAX_NODES):
        talk.greet(f"gw{i}", 1.0)
    with pytest.raises(Refused, match="too many nodes"):
        talk.say("late", 1.1)
    talk.witness.fall_silent(1.5)
    talk.greet("late", 1.5)
    assert len(talk.witness.peers) == MAX_NODES


def test_invented_clusters_give_way_to_true_ones():
    talk = Talk()
    assert talk.greet("gw1", 1.0, b"true") == ["gw1"]
    for i in range(1000):
        talk.say("gw1", 1.0 + i / 10000, str(i).encode())
    assert talk.greet("gw1", 1.2, b"another") == ["gw1"]
    assert talk.say("gw2", 1.2, b"true") == ["gw1"], "the promise still binds"
    assert len({cluster for cluster, _ in talk.witness.peers}) == MAX_CLUSTERS


def test_a_cluster_that_lives_or_has_a_promise_is_not_forgotten():
    talk = Talk()
    for i in range(MAX_CLUSTERS):
        talk.greet("gw1", 1.0, str(i).encode())
    with pytest.raises(Refused, match="too many clusters"):
        talk.say("gw1", 1.1, b"late")
    talk.witness.fall_silent(1.5)
    assert talk.greet("gw1", 1.5, b"late") == ["gw1"]


def test_nothing_recorded_confirms_a_node_that_was_forgotten():
    """Numbers go on: an old echo stands for nothing that is said to the same name later."""
    talk = Talk()
    said = []
    for i in range(5):
        talk.say("gw1", 1.0 + i / 10, stake=Stake.IDLE)
        said.append(talk.told[b"", "gw1"])
    recorded = [
        Beat("gw1", 1, 90 + i, LEASE, 0.1, echoes=(Echo(WITNESS, 7, i, 0.0),), claims=(Claim(VIP, Stake.ASKING, 1),))
        for i in said
    ]
    talk.witness.fall_silent(2.0)
    for i in range(MAX_NODES):
        talk.greet(f"other{i}", 2.0)
    talk.witness.fall_silent(3.0)
    assert len(talk.witness.peers) == MAX_NODES
    for beat in recorded * 2:
        answer = talk.witness.receive(beat, "udp", 3.0)
        assert answer is not None
        assert answer.votes == ()


def test_no_node_can_be_called_witness():
    with pytest.raises(Refused, match="own name"):
        Talk().say(WITNESS, 1.0)
    Talk().greet("gw1", 1.0)
