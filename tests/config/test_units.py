import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import units


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("250ms", 0.25),
        ("2s", 2.0),
        ("1.5s", 1.5),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("0s", 0.0),
        ("3 s", 3.0),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    "value, message",
    [
        (5, "a duration needs a unit: 5s?"),
        (0.5, "a duration needs a unit: 0.5s?"),
        ("10sec", "did you mean 10s?"),
        ("5 minutes", "did you mean 5m?"),
        ("20 millis", "did you mean 20ms?"),
        ("10", "expected a duration such as 250ms, 2s, 10m"),
        ("-1s", "expected a duration"),
        ("1e3s", "expected a duration"),
        ("4000d", "at most 3650d"),
        ("999999999999d", "at most 3650d"),
        ("99999999999999999999d", "at most 3650d"),
        (True, "expected a duration"),
        (None, "expected a duration"),
        (["1s"], "expected a duration"),
        ("٣s", "expected a duration"),
    ],
)
def test_not_a_duration(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        units.duration(value)


@pytest.mark.parametrize(
    "value, expected",
    [
        (0, 0),
        (512, 512),
        ("500B", 500),
        ("16KiB", 16384),
        ("1.5MiB", 1572864),
        ("1GiB", 1 << 30),
        ("10MB", 10_000_000),
    ],
)
def test_size(value: object, expected: int) -> None:
    assert units.size(value) == expected


@pytest.mark.parametrize(
    "value, message",
    [
        ("16k", "did you mean 16KiB?"),
        ("16kb", "did you mean 16KiB?"),
        ("1Mi", "did you mean 1MiB?"),
        (-1, "expected a size"),
        (True, "expected a size"),
        (1.5, "expected a size"),
        ("16", "expected a size"),
        ("16 apples", "expected a size such as 500B, 16KiB, 1MiB"),
        ("99999999999999999999B", "a size is at most 4194304TiB"),
        (1 << 63, "a size is at most 4194304TiB"),
    ],
)
def test_not_a_size(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        units.size(value)


@given(st.integers(min_value=0, max_value=1 << 39))
def test_a_size_is_shown_as_it_is_read(number: int) -> None:
    text = units.size_text(number)
    assert units.size(text) == number


@pytest.mark.parametrize(
    "value, expected",
    [("500/s", 500.0), ("0/s", 0.0), ("600/m", 10.0), ("10KiB/s", 10240.0), ("1.5 MB / m", 25000.0), ("36B/h", 0.01)],
)
def test_rate(value: object, expected: float) -> None:
    assert units.rate(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value, message",
    [
        (500, "expected a rate such as 500/s, 10KiB/s, 600/m (did you mean 500/s?)"),
        (True, "expected a rate"),
        ("500", "expected a rate"),
        ("/s", "expected a rate"),
        ("-1/s", "expected a rate"),
        ("1.5/s", "expected a rate"),
        ("5/d", "expected a rate"),
        ("5k/s", "expected a rate"),
        ("5/s/s", "expected a rate"),
        ("٣/s", "expected a rate"),
        ("1KiB/ms", "expected a rate"),
        (None, "expected a rate"),
    ],
)
def test_not_a_rate(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        units.rate(value)


def test_share() -> None:
    assert units.share("60%") == pytest.approx(0.6)
    assert units.share("0%") == 0
    assert units.share("100 %") == 1


@pytest.mark.parametrize("value", ["101%", "60", 0.6, 60, "-1%", None])
def test_not_a_share(value: object) -> None:
    with pytest.raises(ValueError, match="expected a share from 0% to 100%"):
        units.share(value)
