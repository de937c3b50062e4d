from gateway.heartbeat.announcing import announce, defend, repeat
from gateway.heartbeat.jobs import Jobs


def times(job, until):
    """When it says something, in seconds from the begin."""
    jobs = Jobs(lambda *_: None)
    said: list[float] = []
    now = 0.0
    jobs.add("a", job(lambda: said.append(round(now, 6))), now)
    while jobs.next_due() <= until:
        now = jobs.next_due()
        jobs.tick(now)
    return said


def test_a_takeover_is_announced_in_a_burst_and_then_every_ten_seconds():
    assert times(announce, 34.0) == [0.0, 0.01, 0.06, 0.21, 0.61, 1.61, 3.61, 13.61, 23.61, 33.61]


def test_who_goes_on_for_another_process_repeats_only():
    assert times(repeat, 25.0) == [10.0, 20.0]


def test_a_claim_of_another_node_is_answered_by_a_short_burst():
    assert times(defend, 100.0) == [0.0, 0.01, 0.06, 0.21]
