from gateway.heartbeat.fitness import Fitness
from gateway.heartbeat.health import Health

SERVING = Health(255, "serving")


def test_a_carrier_is_needed_and_the_first_one_is_believed_at_once():
    fitness = Fitness("eth0")
    assert fitness.judge(SERVING, 255, 0.0, carrier=False) == (0, "eth0 is down")
    fitness = Fitness("eth0")
    assert fitness.judge(SERVING, 255, 0.0, carrier=True) == (255, "serving")


def test_health_counts_as_far_as_it_is_believed():
    fitness = Fitness("eth0")
    assert fitness.judge(SERVING, 100, 0.0, carrier=True) == (100, "well again, but not for long enough")
    assert fitness.judge(Health(0, "starting"), 0, 0.1, carrier=True) == (1, "starting")


def test_a_carrier_that_comes_and_goes_must_stay_ever_longer():
    fitness = Fitness("eth0")
    again = 1, "eth0 is up again, but not for long enough"
    fitness.judge(SERVING, 255, 0.0, carrier=True)
    now = 1.0
    for hold in (1.0, 2.0, 4.0, 8.0):
        assert fitness.judge(SERVING, 255, now, carrier=False)[0] == 0
        # Better here than nowhere, but only then.
        assert fitness.judge(SERVING, 255, now, carrier=True) == again
        assert fitness.judge(SERVING, 255, now + hold - 0.1, carrier=True) == again
        assert fitness.judge(SERVING, 255, now + hold, carrier=True) == (255, "serving")
        now += hold + 1.0


def test_a_carrier_that_does_not_last_does_not_count():
    fitness = Fitness("eth0")
    fitness.judge(SERVING, 255, 0.0, carrier=True)
    for now in range(1, 10):
        assert fitness.judge(SERVING, 255, now, carrier=False)[0] == 0
        assert fitness.judge(SERVING, 255, now + 0.5, carrier=True)[0] == 1
