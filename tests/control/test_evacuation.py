"""The order in which a site is evacuated, who orders it, and how long it takes."""

from datetime import UTC, datetime

import pytest

from gateway.config.overrides import NOTHING, Override
from gateway.config.sites import Sites
from gateway.config.units import clock_text
from gateway.control.evacuation import Evacuation, Order, Present, news, ordered

T0 = datetime(2026, 12, 5, 2, 0, tzinfo=UTC).timestamp()
PEERS = {"syd": {"url": "https://syd.example.com", "report": "syd.example.com:7946"}}


def sites(*windows: dict[str, str]) -> Sites:
    return Sites.model_validate(
        {"self": "mel", "listen": "0.0.0.0:7946", "peers": PEERS, "key_file": "k", "maintenance": windows}
    )


WEEKLY = {"from": "2026-12-05T02:00:00Z", "for": "2h", "every": "7d"}


def test_a_window_orders_the_evacuation_while_it_is_open() -> None:
    model = sites(WEEKLY)
    assert ordered(model, NOTHING, T0 - 1) is None
    for week in (0, 1, 52):
        began = T0 + week * 7 * 86400
        assert ordered(model, NOTHING, began) == Order("window", began, began + 7200)
        assert ordered(model, NOTHING, began + 7199) == Order("window", began, began + 7200)
        assert ordered(model, NOTHING, began + 7200) is None
    once = sites({key: WEEKLY[key] for key in ("from", "for")})
    assert ordered(once, NOTHING, T0) == Order("window", T0, T0 + 7200)
    assert ordered(once, NOTHING, T0 + 7 * 86400) is None


def test_a_command_outweighs_a_window() -> None:
    model = sites(WEEKLY)
    assert ordered(model, Override("drain", since=T0 - 50), T0 + 1) == Order("command", T0 - 50)
    undone = Override("ready", since=T0 + 60)
    assert ordered(model, undone, T0 + 61) is None, "the present window is over"
    assert ordered(model, undone, T0 + 7 * 86400) == Order("window", T0 + 7 * 86400, T0 + 7 * 86400 + 7200)


@pytest.mark.parametrize(
    "window, says",
    [
        ({"from": "2026-12-05T02:00:00", "for": "2h"}, "say in which zone"),
        ({"from": "saturday", "for": "2h"}, "not a date and time"),
        ({"from": "2026-12-05T02:00:00Z", "for": "2h", "every": "1h"}, "must be shorter than every"),
    ],
)
def test_a_window_that_cannot_be_is_refused(window: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sites(window)


def test_resolvers_then_sessions_then_addresses() -> None:
    evacuation = Evacuation()
    order = Order("command", T0)

    def phase(after: float, left: int, here: tuple[str, ...] = (), *, drained: bool = True) -> str:
        report = evacuation.step(order, "mel", 10.0, Present(left, here, drained), T0 + after)
        assert report is not None
        return report.phase

    assert evacuation.step(None, "mel", 10.0, Present(7), T0) is None
    assert phase(0.0, 40) == "resolvers"
    assert phase(11.9, 0) == "resolvers", "a resolver may still send clients"
    assert not evacuation.released
    assert phase(12.0, 3) == "sessions"
    assert phase(20.0, 0, ("192.0.2.1",), drained=False) == "addresses"
    assert evacuation.released
    assert phase(21.0, 0, (), drained=False) == "addresses", "heartbeat has not heard of it"
    assert phase(22.0, 0) == "done"
    assert phase(30.0, 1) == "done", "a late client changes nothing"
    assert evacuation.step(None, "mel", 10.0, Present(1), T0 + 31) is None
    assert not evacuation.released, "addresses may come back"


def test_the_log_tells_when_a_site_is_evacuated_is_empty_and_comes_back() -> None:
    evacuation = Evacuation()
    window = Order("window", T0, T0 + 7200)
    before, said = None, []
    for order, after, left in (
        (None, 0, 5),
        (window, 1, 5),
        (window, 2, 5),
        (window, 13, 0),
        (window, 14, 0),
        (None, 15, 0),
    ):
        now = evacuation.step(order, "mel", 10.0, Present(left), T0 + after)
        said.append(news(before, now))
        before = now
    assert said == [
        "",
        f"site mel is evacuated in a maintenance window until {clock_text(T0 + 7200)}: no new clients",
        "",
        "site mel is evacuated: no client is left",
        "",
        "site mel is not evacuated any more: it takes new clients",
    ]
    by_command = evacuation.step(Order("command", T0 + 20), "mel", 10.0, Present(1), T0 + 20)
    assert news(None, by_command) == "site mel is evacuated by command: no new clients"


def test_the_estimate_follows_the_pace_at_which_sessions_end() -> None:
    evacuation = Evacuation()
    order = Order("window", T0, T0 + 7200)
    found = []
    for after, left in ((0, 90), (5, 100), (15, 80), (25, 60), (105, 0)):
        report = evacuation.step(order, "mel", 10.0, Present(left), T0 + after)
        assert report is not None
        found.append(report.estimate)
    assert found == [None, None, 40.0, 30.0, 0.0]
