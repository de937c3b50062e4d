"""Times as values of options."""

import click
import pytest

from gateway.cli.seconds import Seconds


@pytest.mark.parametrize("text, seconds", [("1", 1.0), ("0.5", 0.5), ("1s", 1.0), ("250ms", 0.25), ("2m", 120.0)])
def test_a_time_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert Seconds(most=120.0).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "x", "1sec", "-1", "nan", "inf", "3m"])
def test_what_is_no_time_or_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Seconds(most=120.0).convert(text, None, None)
