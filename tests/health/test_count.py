import pytest

from gateway.health.count import Counter, State


@pytest.mark.parametrize(
    "start, results, states",
    [
        # "+" a good result, "-" a bad one; U unknown, + up, - down after each
        (State.UNKNOWN, "+", "+"),
        (State.UNKNOWN, "-", "-"),
        (State.UP, "--+--+---", "++++++++-"),
        (State.DOWN, "+-++", "---+"),
        (State.UNKNOWN, "-++---+", "--+++--"),
        (State.UP, "++++", "++++"),
    ],
)
def test_rise_and_fall(start: State, results: str, states: str) -> None:
    counter = Counter(rise=2, fall=3, state=start)
    found = ""
    for result in results:
        counter.add(good=result == "+")
        found += {State.UP: "+", State.DOWN: "-", State.UNKNOWN: "U"}[counter.state]
    assert found == states


def test_a_change_tells_how_many_results_made_it() -> None:
    counter = Counter(rise=2, fall=3)
    assert [counter.add(good=good) for good in (True, False, False, False, True, True)] == [1, 0, 0, 3, 0, 2]


def test_undecided_while_results_speak_against_the_state() -> None:
    counter = Counter(rise=2, fall=3, state=State.UP)
    assert not counter.undecided
    counter.add(good=False)
    assert counter.undecided
    assert repr(counter) == "<Counter UP, 1 against>"
    counter.add(good=True)
    assert not counter.undecided
