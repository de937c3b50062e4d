"""The share of a server that comes back."""

import pytest

from gateway.load.ramp import FIRST, Ramp, Strain

EASE = Strain(seconds=0.1, others_seconds=0.1)


def test_without_strain_it_takes_as_long_as_configured() -> None:
    ramp = Ramp(30.0, 100.0)
    assert ramp.share == FIRST
    assert ramp.advance(115.0, EASE) == pytest.approx((1 + FIRST) / 2)
    assert ramp.advance(129.9, EASE) < 1.0
    assert ramp.advance(130.0, EASE) == 1.0


@pytest.mark.parametrize(
    "strain",
    [Strain(seconds=0.2, others_seconds=0.1), Strain(load=0.9, others_load=0.3)],
    ids=["slower than the others", "more loaded than the others"],
)
def test_under_strain_it_pauses_for_a_bounded_time(strain: Strain) -> None:
    ramp = Ramp(10.0, 0.0)
    assert ramp.advance(5.0, EASE) == pytest.approx(0.55)
    assert ramp.advance(20.0, strain) == pytest.approx(0.55)
    assert ramp.advance(22.0, EASE) == pytest.approx(0.73)
    assert ramp.advance(40.0, strain) == 1.0


@pytest.mark.parametrize(
    "strain",
    [Strain(), Strain(seconds=5.0), Strain(load=0.4, others_load=0.1), Strain(load=0.95, others_load=0.9)],
    ids=["nothing known", "no other server to compare with", "idle", "all are busy"],
)
def test_conditions_that_are_no_strain(strain: Strain) -> None:
    assert Ramp(10.0, 0.0).advance(1.0, strain) > FIRST
