"""Who is taken out for how it answers, with a clock of our own."""

import pytest

from gateway.health.outlier import Ejection, Outliers, Rules, Seen

RULES = Rules(errors=5, latency_factor=5.0, eject_for=10.0, max_ejected=0.5, panic=0.3)
GOOD = Seen(streak=0, seconds=0.1, good=100, up=True)
BAD = Seen(streak=7, seconds=0.1, good=100, up=True)
DOWN = Seen(streak=0, seconds=None, good=0, up=False)


def states(outliers: Outliers, seen: dict[str, Seen], now: float) -> dict[str, Ejection]:
    return {name: state for name, (state, _) in outliers.judge(RULES, seen, now).items()}


def farm(**special: Seen) -> dict[str, Seen]:
    return {**dict.fromkeys(("a", "b", "c", "d"), GOOD), **special}


def out(outliers: Outliers, seen: dict[str, Seen], now: float) -> set[str]:
    return {name for name, state in states(outliers, seen, now).items() if state is Ejection.OUT}


def test_failures_in_a_row_eject_and_say_why() -> None:
    outliers = Outliers()
    assert out(outliers, farm(a=Seen(4, 0.1, 100, up=True)), 0) == set()
    state, why = outliers.judge(RULES, farm(a=BAD), 0.1)["a"]
    assert (state, why) == (Ejection.OUT, "7 consecutive failures")


def test_one_that_takes_much_longer_than_the_others_is_ejected() -> None:
    outliers = Outliers()
    assert out(outliers, farm(a=Seen(0, 0.49, 100, up=True)), 0) == set()
    state, why = outliers.judge(RULES, farm(a=Seen(0, 0.6, 100, up=True)), 0.1)["a"]
    assert state is Ejection.OUT
    assert why == "response time 0.6 s, median of the others 0.1 s"


def test_two_servers_have_no_usual_time() -> None:
    seen = {"a": Seen(0, 5.0, 100, up=True), "b": GOOD}
    assert out(Outliers(), seen, 0) == set()


def test_the_way_back_is_a_probe_that_is_answered() -> None:
    outliers = Outliers()
    assert out(outliers, farm(a=BAD), 0) == {"a"}
    assert out(outliers, farm(a=BAD), 9.9) == {"a"}
    assert states(outliers, farm(a=BAD), 10)["a"] is Ejection.PROBED
    assert states(outliers, farm(a=BAD), 30)["a"] is Ejection.PROBED  # no request has probed it
    assert states(outliers, farm(a=Seen(0, 9.0, 101, up=True)), 31)["a"] is Ejection.IN_ROTATION
    # Its time is of before; it is judged by what it does now.
    assert out(outliers, farm(a=Seen(0, 9.0, 103, up=True)), 32) == set()
    assert out(outliers, farm(a=Seen(0, 9.0, 106, up=True)), 33) == {"a"}


def test_a_probe_that_fails_sends_it_away_for_longer() -> None:
    outliers = Outliers()
    assert out(outliers, farm(a=BAD), 0) == {"a"}
    assert states(outliers, farm(a=BAD), 10)["a"] is Ejection.PROBED
    assert out(outliers, farm(a=Seen(8, 0.1, 100, up=True)), 10.5) == {"a"}
    assert out(outliers, farm(a=Seen(8, 0.1, 100, up=True)), 30.4) == {"a"}
    assert states(outliers, farm(a=Seen(8, 0.1, 100, up=True)), 30.5)["a"] is Ejection.PROBED


def test_good_conduct_makes_up_for_an_ejection() -> None:
    outliers = Outliers()
    for start in (0.0, 100.0):
        assert out(outliers, farm(a=BAD), start) == {"a"}
        assert states(outliers, farm(a=BAD), start + 10)["a"] is Ejection.PROBED  # ten seconds the second time as well
        assert out(outliers, farm(a=Seen(0, 0.1, 200, up=True)), start + 11) == set()
        assert out(outliers, farm(a=Seen(0, 0.1, 300, up=True)), start + 62) == set()


@pytest.mark.parametrize("bad", [2, 3, 4])
def test_never_more_than_a_share_is_out(bad: int) -> None:
    seen = farm(**dict.fromkeys("abcd"[:bad], BAD))
    assert len(out(Outliers(), seen, 0)) == 2


def test_a_lone_server_stays_whatever_it_does() -> None:
    assert out(Outliers(), {"a": BAD}, 0) == set()


def test_in_a_panic_every_server_serves() -> None:
    outliers = Outliers()
    names = ("a", "b", "c", "d")
    assert out(outliers, farm(a=BAD, b=BAD), 0) == {"a", "b"}
    # Checks find c down: of four, one is left, which is less than 30 %.
    assert states(outliers, farm(a=BAD, b=BAD, c=DOWN), 1) == dict.fromkeys(names, Ejection.IN_ROTATION)
    assert out(outliers, farm(a=BAD, b=BAD), 2) == {"a", "b"}


def test_servers_come_and_go() -> None:
    outliers = Outliers()
    assert out(outliers, farm(a=BAD), 0) == {"a"}
    assert out(outliers, {"b": GOOD, "e": GOOD}, 1) == set()
    assert out(outliers, farm(), 2) == set()
