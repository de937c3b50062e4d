"""The lease on a shared disk: who may count on its vote, and from when on another may."""

import pytest

from gateway.heartbeat.beat import Beat, Claim, Stake, Vote
from gateway.heartbeat.disk_witness import DiskWitness

VIP = "192.0.2.10"
LEASE = 0.4


def beat(node, sequence, stake, incarnation=7):
    return Beat(node, incarnation, sequence, LEASE, 0.1, claims=(Claim(VIP, stake, 200),))


@pytest.fixture
def disk():
    """The disk as gw2 sees it, gw1's block having been empty for a lease."""
    disk = DiskWitness(1, [0])
    disk.show(0, bytes(8), None, -1.0, -0.9)
    disk.show(0, bytes(8), None, -0.1, -0.09)
    return disk


def votes(disk, sequence, begin, end, stake=Stake.ASKING, candidate="gw2"):
    return [
        (vote.address, vote.candidate, vote.sequence)
        for vote in disk.answer(beat("gw2", sequence, stake), begin, end).votes
        if vote.candidate == candidate
    ]


def test_the_vote_is_there_when_no_other_flag_is_up(disk):
    answer = disk.answer(beat("gw2", 5, Stake.ASKING), 0.0, 0.01)
    assert [(vote.address, vote.candidate, vote.sequence) for vote in answer.votes] == [(VIP, "gw2", 5)]
    assert answer.node == "witness"
    assert [(echo.node, echo.sequence) for echo in answer.echoes] == [("gw2", 5)]


def test_nothing_is_known_before_a_lease_has_passed():
    disk = DiskWitness(1, [0])
    disk.show(0, bytes(8), None, 0.0, 0.01)
    assert not votes(disk, 1, 0.0, 0.0)
    disk.show(0, bytes(8), None, 0.40, 0.42)
    assert not votes(disk, 2, 0.39, 0.40), "the last look began less than a lease after the first one ended"
    disk.show(0, bytes(8), None, 0.42, 0.43)
    assert votes(disk, 3, 0.40, 0.41)


@pytest.mark.parametrize("stake", [Stake.ASKING, Stake.OWNING])
def test_a_flag_counts_until_it_was_not_renewed_for_a_lease(disk, stake):
    disk.show(0, b"1", beat("gw1", 1, Stake.IDLE), 0.0, 0.01)
    disk.show(0, b"2", beat("gw1", 2, stake), 0.5, 0.51)
    assert not votes(disk, 1, 0.49, 0.5)
    disk.show(0, b"2", beat("gw1", 2, stake), 0.9, 0.92)
    assert not votes(disk, 2, 0.89, 0.9)
    disk.show(0, b"2", beat("gw1", 2, stake), 0.92, 0.93)
    assert votes(disk, 3, 0.9, 0.91)


def test_who_sees_another_own_the_address_has_the_vote_no_more_whatever_its_own_clock_says(disk):
    disk.show(0, b"1", beat("gw1", 1, Stake.IDLE), 0.0, 0.01)
    disk.show(0, b"1", beat("gw1", 1, Stake.IDLE), 0.89, 0.9)
    assert votes(disk, 1, 0.87, 0.88)
    disk.show(0, b"2", beat("gw1", 2, Stake.ASKING), 0.92, 0.93)
    assert votes(disk, 2, 0.94, 0.95), "who merely asks has nothing"
    disk.show(0, b"3", beat("gw1", 3, Stake.OWNING), 0.96, 0.97)
    assert not votes(disk, 3, 0.98, 0.99)
    assert votes(disk, 4, 0.98, 0.99, candidate="gw1") == [(VIP, "gw1", 3)]
    disk.show(0, b"3", beat("gw1", 3, Stake.OWNING), 1.40, 1.41)
    assert votes(disk, 5, 1.42, 1.43)
    assert not votes(disk, 6, 1.44, 1.45, candidate="gw1")


def owning(sequence, since, incarnation=7):
    """What gw1 writes while it has the address, and has had the disk's vote since its beat `since`."""
    return beat("gw1", sequence, Stake.OWNING, incarnation)._replace(votes=(Vote(VIP, "gw1", incarnation, since),))


@pytest.mark.parametrize(
    "returning, kept",
    [
        (owning(21, since=5), True),
        (owning(21, since=20), True),
        (owning(40, since=21), False),
        (owning(3, since=1, incarnation=8), False),
        (beat("gw1", 21, Stake.OWNING), False),
    ],
    ids=["as before", "as it said last", "anew", "another life", "who does not say"],
)
def test_who_has_taken_the_vote_keeps_it_against_one_who_has_not_had_it_since(disk, returning, kept):
    disk.show(0, b"1", owning(19, since=5), 0.0, 0.01)
    disk.show(0, b"2", owning(20, since=5), 0.1, 0.11)
    disk.show(0, b"2", owning(20, since=5), 0.52, 0.53)
    assert votes(disk, 1, 0.50, 0.51), "gw1 was silent for a lease"
    disk.show(0, b"3", returning, 0.62, 0.63)
    assert bool(votes(disk, 2, 0.60, 0.61)) == kept
    assert bool(votes(disk, 2, 0.60, 0.61, candidate="gw1")) != kept


def test_a_flag_taken_down_frees_the_vote_at_once(disk):
    disk.show(0, b"1", beat("gw1", 1, Stake.OWNING), 0.0, 0.01)
    disk.show(0, b"2", beat("gw1", 2, Stake.OWNING), 0.5, 0.51)
    disk.show(0, b"3", beat("gw1", 3, Stake.IDLE), 0.6, 0.61)
    assert votes(disk, 1, 0.59, 0.6)


def test_the_holder_of_the_vote_keeps_it_by_writing_in_time(disk):
    assert votes(disk, 1, 0.0, 0.01)
    disk.show(0, b"1", beat("gw1", 1, Stake.ASKING), 0.1, 0.11)
    assert votes(disk, 2, 0.1, 0.39), "the write ended before the vote of the one before was over"
    assert not votes(disk, 3, 0.45, 0.50), "too late, and another one asks"


@pytest.mark.parametrize(
    "content, said",
    [
        (b"torn", None),
        (b"older", beat("gw1", 2, Stake.IDLE)),
        (b"reborn", beat("gw1", 1, Stake.IDLE, incarnation=8)),
        (None, None),
    ],
)
def test_what_cannot_be_believed_is_a_flag_for_a_lease(disk, content, said):
    disk.show(0, b"1", beat("gw1", 3, Stake.OWNING), 0.0, 0.01)
    disk.show(0, content, said, 0.1, 0.11)
    assert not votes(disk, 1, 0.09, 0.1)
    disk.show(0, content, said, 0.5, 0.51)
    assert not votes(disk, 2, 0.49, 0.5)
    disk.show(0, content, said, 0.52, 0.53)
    assert bool(votes(disk, 3, 0.5, 0.52)) == (content is not None), "what cannot be read is never free"


def test_an_idle_node_lets_go(disk):
    assert votes(disk, 1, 0.0, 0.01)
    assert not votes(disk, 2, 0.1, 0.11, Stake.IDLE)
    disk.show(0, b"1", beat("gw1", 1, Stake.ASKING), 0.12, 0.13)
    assert not votes(disk, 3, 0.1, 0.12)


def test_a_block_that_another_node_writes_to_voids_what_was_held(disk):
    assert votes(disk, 1, 0.0, 0.01)
    disk.show(0, b"1", beat("gw1", 1, Stake.ASKING), 0.1, 0.11)
    disk.forget()
    assert not votes(disk, 2, 0.1, 0.2)
