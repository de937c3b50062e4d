"""How fit a node is, and when to believe that it is well again."""

from gateway.heartbeat.damping import FORGET, LONGEST, Damper
from gateway.heartbeat.health import judge


def test_a_stuck_worker_weighs_more_than_the_router_and_that_more_than_backends():
    best = judge([0.1, 0.2], [("app", True)], router=True)
    no_backend = judge([0.1, 0.2], [("app", False)], router=True)
    no_router = judge([0.1, 0.2], [("app", True)], router=False)
    stuck = judge([0.1, 9.0], [("app", True)], router=True)
    assert 255 == best.value > no_backend.value > no_router.value > stuck.value > 0
    assert best.reason == "serving"
    assert no_backend.reason == "no server is up in backend app"
    assert stuck.reason == "1 of 2 workers do not respond"
    assert judge([9.0], [("app", False)], router=False).value == 1


def test_half_of_the_backends_count_half():
    values = [judge([], [("a", True), ("b", up)], router=True).value for up in (True, False)]
    assert values[0] - values[1] == 31


def test_the_first_rise_is_believed_at_once():
    damper = Damper(0)
    assert damper.observe(127, 1.0) == 127
    assert damper.observe(255, 1.1) == 255


def test_a_fall_is_believed_at_once_and_the_rise_after_it_later():
    damper = Damper(255)
    assert damper.observe(100, 10.0) == 100
    assert damper.observe(255, 10.1) == 100
    assert damper.observe(255, 11.0) == 100
    assert damper.observe(255, 11.2) == 255


def test_a_rise_that_does_not_last_begins_anew():
    damper = Damper(255)
    damper.observe(100, 10.0)
    damper.observe(255, 10.1)
    damper.observe(100, 10.9)
    assert damper.observe(255, 11.2) == 100
    assert damper.observe(255, 12.3) == 255


def test_flapping_makes_it_wait_ever_longer_and_peace_makes_that_forgotten():
    damper = Damper(255)
    now = 0.0
    holds = []
    for _ in range(9):
        damper.observe(100, now)
        holds.append(damper.hold)
        damper.observe(255, now)
        now += damper.hold + 0.1
        assert damper.observe(255, now) == 255
    assert holds == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST, LONGEST, LONGEST]
    damper.observe(100, now + FORGET)
    assert damper.hold == 1.0
