"""What an interface that comes and goes is good for."""

from gateway.heartbeat.fitness import Fitness
from gateway.heartbeat.health import Health

SERVING = Health(255, "serving")


def judged(fitness: Fitness, now: float, *, carrier: bool, owner: bool = False) -> int:
    fitness.look(now, carrier=carrier)
    return fitness.judge(SERVING, 255, owner=owner)[0]


def test_a_carrier_is_needed_and_the_first_one_is_believed_at_once() -> None:
    fitness = Fitness("eth0")
    fitness.look(0.0, carrier=False)
    assert fitness.judge(SERVING, 255, owner=False) == (0, "eth0 is down")
    fitness.look(0.1, carrier=True)
    assert fitness.judge(SERVING, 255, owner=False) == (255, "serving")


def test_health_counts_as_far_as_it_is_believed() -> None:
    fitness = Fitness("eth0")
    fitness.look(0.0, carrier=True)
    assert fitness.judge(SERVING, 100, owner=False) == (100, "healthy again, but not long enough")
    assert fitness.judge(Health(0, "starting"), 0, owner=True) == (1, "starting")


def test_a_carrier_that_comes_and_goes_must_stay_ever_longer() -> None:
    fitness = Fitness("eth0")
    judged(fitness, 0.0, carrier=True)
    now = 1.0
    for hold in (1.0, 2.0, 4.0, 8.0):
        assert judged(fitness, now, carrier=False) == 0
        # Better here than nowhere, but only then.
        assert judged(fitness, now, carrier=True) == 1
        assert judged(fitness, now + hold - 0.1, carrier=True) == 1
        assert judged(fitness, now + hold, carrier=True) == 255
        now += hold + 1.0


def test_a_carrier_that_does_not_last_does_not_count() -> None:
    fitness = Fitness("eth0")
    judged(fitness, 0.0, carrier=True)
    for now in range(1, 10):
        assert judged(fitness, now, carrier=False) == 0
        assert judged(fitness, now + 0.5, carrier=True) == 1
    assert fitness.judge(SERVING, 255, owner=False)[1] == "eth0 is up again, but not long enough"


def test_who_owns_the_address_does_not_lose_it_for_what_was() -> None:
    fitness = Fitness("eth0")
    judged(fitness, 0.0, carrier=True)
    judged(fitness, 1.0, carrier=False)
    assert judged(fitness, 1.1, carrier=True) == 1
    assert judged(fitness, 1.2, carrier=True, owner=True) == 255
    assert judged(fitness, 1.3, carrier=False, owner=True) == 0
