from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.load.replay import ReplayGuard, Verdict
from loadagent.report import Report

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


def report(
    incarnation: int, sequence: int, *, server: str = "a", backend: str | None = None, time: int = NOW
) -> Report:
    return Report(server, incarnation, sequence, time, backend=backend)


def test_numbers_must_rise() -> None:
    guard = ReplayGuard(NOW, 0.0)
    steps = [
        (report(5, 1), Verdict.ACCEPTED),
        (report(5, 1), Verdict.REPLAYED),
        (report(5, 3), Verdict.ACCEPTED),  # one was lost
        (report(5, 2), Verdict.REPLAYED),  # and comes late
        (report(6, 1), Verdict.ACCEPTED),  # the agent started again
        (report(5, 4), Verdict.REPLAYED),  # the one before it
        (report(6, 2), Verdict.ACCEPTED),
    ]
    assert [guard.check(step, NOW, 0.0) for step, _ in steps] == [verdict for _, verdict in steps]


def test_every_server_has_its_own_numbers() -> None:
    guard = ReplayGuard(NOW, 0.0)
    for server, backend in (("a", None), ("b", None), ("a", "app")):
        assert guard.check(report(1, 1, server=server, backend=backend), NOW, 0.0) is Verdict.ACCEPTED
        assert guard.check(report(1, 1, server=server, backend=backend), NOW, 0.0) is Verdict.REPLAYED


@pytest.mark.parametrize(
    "offset, verdict",
    [
        (30 * SECOND, Verdict.ACCEPTED),
        (30 * SECOND + 1, Verdict.SKEWED),
        (-30 * SECOND, Verdict.ACCEPTED),
        (-30 * SECOND - 1, Verdict.SKEWED),
    ],
)
def test_clocks_must_agree(offset: int, verdict: Verdict) -> None:
    assert ReplayGuard(NOW - 60 * SECOND, 0.0).check(report(1, 1, time=NOW + offset), NOW, 40.0) is verdict


def test_a_report_of_another_time_is_not_remembered() -> None:
    guard = ReplayGuard(NOW, 0.0)
    assert guard.check(report(9, 9, time=NOW + 60 * SECOND), NOW, 0.0) is Verdict.SKEWED
    assert guard.check(report(1, 1), NOW, 0.0) is Verdict.ACCEPTED


def at(seconds: float) -> tuple[int, float]:
    """Both clocks, so long after the beginning."""
    return NOW + round(seconds * SECOND), seconds


def test_an_incarnation_from_the_future_is_refused() -> None:
    guard = ReplayGuard(NOW, 0.0)
    for ahead in (31 * SECOND, 2**63, 2**64 - 1 - NOW):
        assert guard.check(report(NOW + ahead, 2**64 - 1), *at(0)) is Verdict.FUTURE
    assert guard.check(report(NOW + 30 * SECOND, 1), *at(0)) is Verdict.ACCEPTED


def test_one_that_was_accepted_ahead_is_forgotten_after_a_minute_of_silence() -> None:
    guard = ReplayGuard(NOW, 0.0)
    assert guard.check(report(NOW + 30 * SECOND, 2**64 - 1), *at(0)) is Verdict.ACCEPTED
    true = [guard.check(report(NOW - 5, i, time=NOW + i * SECOND), *at(i)) for i in range(1, 62)]
    assert true == [Verdict.REPLAYED] * 60 + [Verdict.ACCEPTED]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),  # seconds until the next report is sent
            st.integers(-30, 30),  # how far its sender's clock is off
            st.integers(0, 200),  # seconds until a copy is sent
        ),
        max_size=40,
    )
)
def test_no_report_is_accepted_twice(sent: list[tuple[int, int, int]]) -> None:
    """Whatever is forgotten, and whenever a copy comes."""
    events = []
    now = 0.0
    for i, (pause, off, later) in enumerate(sent):
        now += pause
        made = report(NOW - SECOND, i, time=NOW + round((now + off) * SECOND))
        events += [(now, made), (now + later, made)]
    guard = ReplayGuard(NOW - 3600 * SECOND, 0.0)
    accepted = [
        item for when, item in sorted(events, key=itemgetter(0)) if guard.check(item, *at(when)) is Verdict.ACCEPTED
    ]
    assert len(accepted) == len(set(accepted_numbers := [item.sequence for item in accepted])), accepted_numbers


def test_a_report_from_before_a_restart_is_refused_after_it() -> None:
    guard = ReplayGuard(NOW, 100.0)
    for age in (1, 29):
        assert guard.check(report(1, 1, time=NOW - age * SECOND), NOW, 100.0) is Verdict.EARLIER
    assert guard.check(report(1, 2, time=NOW), NOW + SECOND, 101.0) is Verdict.ACCEPTED


def test_a_clock_that_was_ahead_at_the_start_keeps_reports_out_for_half_a_minute() -> None:
    guard = ReplayGuard(NOW + 3600 * SECOND, 100.0)
    assert guard.check(report(1, 1), NOW, 129.0) is Verdict.EARLIER
    assert guard.check(report(1, 1), NOW, 130.0) is Verdict.ACCEPTED


def test_with_a_shared_key_the_address_that_speaks_keeps_the_word() -> None:
    guard = ReplayGuard(NOW, 0.0)
    assert guard.check(report(5, 1), *at(0), source="a") is Verdict.ACCEPTED
    assert guard.check(report(9, 1), *at(1), source="b") is Verdict.ELSEWHERE
    assert guard.check(report(5, 2, time=NOW + 61 * SECOND), *at(61), source="b") is Verdict.ACCEPTED, "a is silent"


def test_the_servers_own_address_takes_the_word_back() -> None:
    guard = ReplayGuard(NOW, 0.0)
    home = ("a",)
    assert guard.check(report(9, 9), *at(0), source="b", home=home) is Verdict.ACCEPTED
    assert guard.check(report(5, 1), *at(1), source="a", home=home) is Verdict.ACCEPTED
    assert guard.check(report(9, 10), *at(1), source="b", home=home) is Verdict.ELSEWHERE
    assert guard.check(report(5, 1), *at(1), source="a", home=home) is Verdict.REPLAYED


def test_invented_names_are_bounded_and_exclude_no_server() -> None:
    guard = ReplayGuard(NOW, 0.0, capacity=8)
    for i in range(100):
        assert guard.check(report(1, 1, backend=f"invented{i}"), *at(0)) is Verdict.ACCEPTED
        assert guard.check(report(1, i, backend="true"), *at(0)) is Verdict.ACCEPTED
    assert len(guard._last) == 8
