"""What counts as heard."""

import pytest

from gateway.heartbeat.beat import Beat, Echo
from gateway.heartbeat.membership import Heard, Membership, Refused

ME = 111
LEASE = 0.4


def membership(expected=("gw2", "gw3")):
    return Membership("gw1", ME, LEASE, expected)


def beat(sequence, echoed=None, *, node="gw2", incarnation=222, held=0.0, life=ME):
    echoes = (Echo("gw1", life, echoed, held),) if echoed is not None else ()
    return Beat(node, incarnation, sequence, LEASE, 0.1, echoes=echoes)


def acquainted():
    members = membership()
    own = members.stamp(10.0)
    assert members.hear(beat(1, own), "udp", 10.01) is Heard.NEW
    return members


def test_nothing_counts_before_the_other_side_has_echoed_this_process():
    members = membership()
    assert members.hear(beat(1), "udp", 10.0) is Heard.UNCONFIRMED
    assert not members.peers["gw2"].alive
    assert [(echo.incarnation, echo.sequence) for echo in members.echoes(10.0)] == [(222, 1)]
    own = members.stamp(10.0)
    assert members.hear(beat(2, own), "udp", 10.02) is Heard.NEW
    assert members.peers["gw2"].alive


def test_echo_of_an_earlier_life_does_not_count():
    members = membership()
    own = members.stamp(10.0)
    assert members.hear(beat(1, own, life=ME + 1), "udp", 10.0) is Heard.UNCONFIRMED


def test_old_echo_does_not_count():
    members = membership()
    own = members.stamp(10.0)
    assert members.hear(beat(1, own), "udp", 12.0) is Heard.UNCONFIRMED


def test_replay_is_refused():
    members = acquainted()
    with pytest.raises(Refused, match="replayed"):
        members.hear(beat(1), "udp", 10.2)


def test_reordered_beat_is_refused():
    members = acquainted()
    members.hear(beat(5), "udp", 10.2)
    with pytest.raises(Refused, match="replayed"):
        members.hear(beat(4), "udp", 10.2)
    assert members.peers["gw2"].beat.sequence == 5


def test_the_same_beat_over_a_second_link_keeps_that_link_alive_only():
    members = acquainted()
    assert members.hear(beat(1), "serial", 10.1) is Heard.COPY
    assert members.peers["gw2"].links["serial"].heard == 10.1
    assert members.peers["gw2"].heard == 10.01


def test_another_life_takes_over_and_the_former_one_is_refused():
    members = acquainted()
    own = members.stamp(10.1)
    assert members.hear(beat(1, own, incarnation=333), "udp", 10.11) is Heard.NEW
    with pytest.raises(Refused, match="former life"):
        members.hear(beat(2, own), "udp", 10.12)


def test_a_late_beat_of_an_earlier_life_does_not_lock_the_later_one_out():
    members = membership()
    own = members.stamp(10.0)
    assert members.hear(beat(9, own, incarnation=333), "udp", 10.1) is Heard.NEW
    assert members.hear(beat(2, own, incarnation=222), "udp", 10.2) is Heard.NEW, "it says nothing of when it was sent"
    own = members.stamp(11.0)
    with pytest.raises(Refused, match="former life"):
        members.hear(beat(20, own, incarnation=333), "udp", 11.79)
    own = members.stamp(11.8)
    assert members.hear(beat(21, own, incarnation=333), "udp", 11.81) is Heard.NEW, "it has heard what was said since"
    with pytest.raises(Refused, match="former life"):
        members.hear(beat(3, own, incarnation=222), "udp", 13.4)
    assert members.hear(beat(3, own, incarnation=222), "udp", 13.42) is Heard.UNCONFIRMED
    assert members.peers["gw2"].incarnation == 333


def test_recorded_beats_of_another_life_do_not_disturb_a_living_peer():
    members = acquainted()
    assert members.hear(beat(9, incarnation=444), "udp", 10.1) is Heard.UNCONFIRMED
    assert [echo.incarnation for echo in members.echoes(10.1)] == [222]


def test_own_name_and_unknown_nodes_are_refused():
    members = membership()
    with pytest.raises(Refused, match="own name"):
        members.hear(beat(1, node="gw1"), "udp", 10.0)
    with pytest.raises(Refused, match="unknown node"):
        members.hear(beat(1, node="gw9"), "udp", 10.0)


def test_huge_jump_of_the_sequence_is_a_bounded_loss():
    members = acquainted()
    assert members.hear(beat(2**63), "udp", 10.2) is Heard.NEW
    assert 0.9 < members.peers["gw2"].links["udp"].loss < 1.0
    for sequence in range(2**63 + 1, 2**63 + 200):
        members.hear(beat(sequence), "udp", 10.2)
    assert members.peers["gw2"].links["udp"].loss < 0.01


def test_dead_after_a_lease_of_silence_on_all_links():
    members = acquainted()
    assert members.fall_silent(10.40) == []
    assert [peer.name for peer in members.fall_silent(10.42)] == ["gw2"]
    assert members.fall_silent(10.5) == []


def test_delay_is_half_the_way_there_and_back():
    members = membership()
    own = members.stamp(10.0)
    members.hear(beat(1, own, held=0.03), "udp", 10.05)
    assert members.peers["gw2"].links["udp"].delay == pytest.approx(0.01)


def confirmed(members, sequence, now, link="udp"):
    """Hear a beat that has heard what was said right before."""
    return members.hear(beat(sequence, members.stamp(now)), link, now)


@pytest.mark.parametrize("forged_on", ["udp", "serial"])
def test_a_number_that_was_forged_too_high_shuts_out_for_four_leases(forged_on):
    members = acquainted()
    assert members.hear(beat(2**64 - 1), forged_on, 10.1) is Heard.NEW
    for i in range(2, 18):  # the true one goes on
        if forged_on == "udp":
            with pytest.raises(Refused, match="replayed"):
                confirmed(members, i, 10.0 + i / 10)
        else:
            assert confirmed(members, i, 10.0 + i / 10) is Heard.COPY
        members.fall_silent(10.0 + i / 10)
    assert not members.peers["gw2"].alive
    assert confirmed(members, 18, 11.8) is Heard.NEW
    assert members.peers["gw2"].alive


def test_what_was_recorded_before_a_silence_is_no_beginning():
    members = acquainted()
    own = members.stamp(10.1)
    recorded = beat(5, own)
    members.hear(beat(6, own), "udp", 10.12)
    for now in (10.2, 11.7, 11.73, 15.0, 1000.0):
        with pytest.raises(Refused, match="replayed"):
            members.hear(recorded, "udp", now)
