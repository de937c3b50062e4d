"""When certificates are ordered, and how long an authority is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.acme import policy
from gateway.acme.policy import DAY, HOUR, Window

LUCK = st.floats(0, 1)


@pytest.mark.parametrize("days", [6, 47, 90])
def test_without_advice_a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_before(days: int) -> None:
    life = days * DAY
    assert policy.renew_at(1000.0, 1000.0 + life, None, 0.0) == pytest.approx(1000.0 + life * 2 / 3)
    assert policy.renew_at(1000.0, 1000.0 + life, None, 1.0) == pytest.approx(1000.0 + life * (2 / 3 - 0.05))


@given(LUCK)
def test_the_window_of_the_authority_decides(luck: float) -> None:
    at = policy.renew_at(0.0, 90 * DAY, Window(60 * DAY, 62 * DAY), luck)
    assert 60 * DAY <= at <= 62 * DAY


def test_a_window_in_the_past_is_as_soon_as_may_be_and_one_after_the_end_is_not_believed() -> None:
    assert policy.renew_at(0.0, 90 * DAY, Window(-5 * DAY, -4 * DAY), 0.5) == HOUR
    assert policy.renew_at(0.0, 90 * DAY, Window(100 * DAY, 120 * DAY), 0.5) == pytest.approx(81 * DAY)
    assert policy.renew_at(0.0, 90 * DAY, Window(60 * DAY, 50 * DAY), 1.0) == 60 * DAY


def test_a_certificate_is_kept_for_an_hour_whatever_is_said() -> None:
    """An authority that always says `at once`, or gives certificates of minutes, does not make a loop."""
    assert policy.renew_at(0.0, 90 * DAY, Window(-5 * DAY, -4 * DAY), 0.5, came=DAY) == DAY + HOUR
    assert policy.renew_at(0.0, 60.0, None, 0.5, came=10.0) == 10.0 + HOUR


def test_the_moment_is_the_same_in_all_gateways_and_differs_between_certificates() -> None:
    drawn = [policy.draw("www.example.com", str(number)) for number in range(1000)]
    assert drawn == [policy.draw("www.example.com", str(number)) for number in range(1000)]
    assert len(set(drawn)) == 1000
    assert 0 <= min(drawn) < 0.05
    assert 0.95 < max(drawn) < 1


@pytest.mark.parametrize("asked, waited", [(0.0, 60.0), (3600.0, 3600.0), (1e9, DAY), (float("inf"), DAY)])
def test_how_soon_the_authority_is_asked_again_is_bounded(asked: float, waited: float) -> None:
    assert policy.ask_again(asked) == waited


def test_waits_double_up_to_a_day() -> None:
    waits = [policy.wait_after("refused", failures, 0.5) for failures in range(1, 12)]
    assert waits[:4] == [300.0, 600.0, 1200.0, 2400.0]
    assert waits[-1] == DAY
    assert policy.wait_after("refused", 10**9, 0.5) == DAY
    assert [policy.wait_after("unreachable", failures, 0.5) for failures in (1, 2, 20)] == [60.0, 120.0, HOUR]


@given(st.integers(1, 50), LUCK)
def test_waits_vary_by_a_tenth_and_the_authority_may_ask_for_more(failures: int, luck: float) -> None:
    mean = policy.wait_after("refused", failures, 0.5)
    assert 0.9 * mean <= policy.wait_after("refused", failures, luck) <= 1.1 * mean
    assert policy.wait_after("limited", failures, luck, asked=3 * DAY) == 3 * DAY
    assert policy.wait_after("limited", failures, luck, asked=1e12) == 7 * DAY


def test_four_failures_in_an_hour_are_all_whatever_the_settings() -> None:
    assert policy.allowed_at((), 1000.0) == 1000.0
    assert policy.allowed_at((10.0, 20.0, 30.0), 1000.0) == 1000.0
    assert policy.allowed_at((10.0, 20.0, 30.0, 40.0), 1000.0) == 10.0 + HOUR
    assert policy.allowed_at((10.0, 20.0, 30.0, 40.0), 10.0 + HOUR) == 10.0 + HOUR
    assert policy.recent((1e12, 5.0, 20.0), 10.0 + HOUR) == (20.0,), "a clock that went back excuses nothing"


def test_the_first_gateway_by_name_orders() -> None:
    nodes = ("gw1", "gw2", "gw3")
    assert policy.orders("gw1", ("gw1",), nodes) == "now"
    assert policy.orders("gw2", ("gw1", "gw2"), nodes) == "no"
    assert policy.orders("gw2", ("gw2", "gw3"), nodes) == "later"
    assert policy.orders("gw3", ("gw2", "gw3"), nodes) == "no"
    assert policy.orders("alone", ("alone",), ("alone",)) == "now"
