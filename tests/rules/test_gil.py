"""Long work beside the traffic: in steps, after each of which others may go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rules import routes as module
from gateway.rules.gil import CHUNK, sort
from gateway.rules.routes import Route, RouteTable


@given(st.lists(st.integers(0, 50)), st.integers(0, 3))
def test_the_order_is_that_of_sorted(items: list[int], times: int) -> None:
    many = [item + CHUNK * turn for turn in range(times) for item in items]
    assert sort(many) == sorted(many)


def test_a_table_gives_way_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within few levels of many routes, and among many ends of one route each."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    monkeypatch.setattr(module, "yield_gil", count)
    for path in ("/same/", "/{}/"):
        calls = 0
        RouteTable([Route(i, None, [], [(path.format(i), "prefix")], "app") for i in range(6400)])
        assert calls >= 2 * 6400 // 64, path
