import pytest

from gateway.load.replay import ReplayGuard, Verdict
from loadagent.report import Report

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


def report(
    incarnation: int, sequence: int, *, server: str = "a", backend: str | None = None, time: int = NOW
) -> Report:
    return Report(server, incarnation, sequence, time, backend=backend)


def test_numbers_must_rise() -> None:
    guard = ReplayGuard()
    steps = [
        (report(5, 1), Verdict.ACCEPTED),
        (report(5, 1), Verdict.REPLAYED),
        (report(5, 3), Verdict.ACCEPTED),  # one was lost
        (report(5, 2), Verdict.REPLAYED),  # and comes late
        (report(6, 1), Verdict.ACCEPTED),  # the agent started again
        (report(5, 4), Verdict.REPLAYED),  # the one before it
        (report(6, 2), Verdict.ACCEPTED),
    ]
    assert [guard.check(step, NOW) for step, _ in steps] == [verdict for _, verdict in steps]


def test_every_server_has_its_own_numbers() -> None:
    guard = ReplayGuard()
    for server, backend in (("a", None), ("b", None), ("a", "app")):
        assert guard.check(report(1, 1, server=server, backend=backend), NOW) is Verdict.ACCEPTED
        assert guard.check(report(1, 1, server=server, backend=backend), NOW) is Verdict.REPLAYED


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
    assert ReplayGuard(max_skew=30.0).check(report(1, 1, time=NOW + offset), NOW) is verdict


def test_a_report_of_another_time_is_not_remembered() -> None:
    guard = ReplayGuard()
    assert guard.check(report(9, 9, time=NOW + 60 * SECOND), NOW) is Verdict.SKEWED
    assert guard.check(report(1, 1), NOW) is Verdict.ACCEPTED
