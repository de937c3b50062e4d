import pytest

from gateway.load.meter import Meter
from gateway.load.weights import Observation


def test_rates_approach_the_counts() -> None:
    meter = Meter(1000, 100)
    for second in range(1, 40):
        meter.count(1000 + second * 50, 100 + second * 10, 1.0)
    seen = meter.observe(2.0, 0.5)
    assert seen.rate == pytest.approx(50.0)
    assert seen.failure_ratio == pytest.approx(0.2)
    assert (seen.weight, seen.load) == (2.0, 0.5)


def test_counts_before_the_start_are_ignored() -> None:
    meter = Meter(10**9, 0)
    meter.count(10**9, 0, 0.5)
    assert meter.observe(1.0, None) == Observation(1.0, 0.0, 0.0, None)


def test_counters_that_went_back_and_no_time_at_all_are_no_rate() -> None:
    meter = Meter(1000, 1000)
    meter.count(2000, 1000, 0.0)
    meter.count(0, 0, 1.0)
    assert meter.observe(1.0, None).rate == 0.0


def test_the_load_is_averaged_until_it_is_stale() -> None:
    meter = Meter(0, 0)
    assert meter.load(0.0, 3.0) is None
    meter.hear(0.2, 10.0, 3.0)
    assert meter.load(10.0, 3.0) == 0.2
    meter.hear(1.0, 12.0, 3.0)  # one time constant later
    assert meter.load(12.0, 3.0) == pytest.approx(1.0 - 0.8 * 0.36788, abs=1e-4)
    assert meter.load(15.0, 3.0) is not None
    assert meter.load(15.1, 3.0) is None
    meter.hear(0.6, 20.0, 3.0)  # after silence it is believed at once
    assert meter.load(20.0, 3.0) == 0.6
    meter.hear(None, 21.0, 3.0)  # a report that could not say
    assert meter.load(21.0, 3.0) is None
