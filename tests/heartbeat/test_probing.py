"""What is made of those who answer while an address is waited for."""

from gateway.heartbeat.probing import Probing

OWNER, STRANGER = "02:00:00:00:00:01", "02:00:00:00:00:09"
INTERVAL = 0.1
FREE = 5.0


def test_the_owner_may_answer_until_its_lease_is_over():
    probing = Probing(FREE - 0.012, FREE + 0.01, OWNER)
    probing.hear(OWNER, FREE - 0.001)
    assert probing.duplicate(FREE) is None
    probing.hear(OWNER, FREE)
    assert probing.duplicate(FREE) == OWNER, "its process is stopped, and its kernel goes on"


def test_an_answer_of_another_host_is_a_duplicate_at_any_time():
    probing = Probing(FREE - 0.012, FREE + 0.01, OWNER)
    probing.hear(STRANGER, FREE - 0.01)
    probing.hear(OWNER, FREE - 0.01)
    assert probing.duplicate(FREE) == STRANGER


def test_of_two_who_are_not_known_one_is_a_duplicate():
    probing = Probing(FREE - 0.012, FREE + 0.01, None)
    probing.hear(OWNER, FREE - 0.01)
    assert probing.duplicate(FREE) is None
    probing.hear(STRANGER, FREE - 0.009)
    assert probing.duplicate(FREE) == STRANGER


def test_a_host_is_not_silent_before_there_was_time_for_an_answer():
    early = Probing(FREE - 0.02, FREE + 0.02, OWNER)
    assert early.answered_by(FREE, INTERVAL) == FREE + 0.005, "of the owner, once its lease is over"
    late = Probing(FREE - 0.001, FREE + 0.02, OWNER)
    assert late.answered_by(FREE, INTERVAL) == FREE - 0.001 + 0.02, "of another host, to all probes"
