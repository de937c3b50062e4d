"""The bench of overload control, in small: what it computes, and one scene with a real gateway."""

import math

import pytest

from bench.crowd import Crowd, Plan, Seen
from bench.overload import CAPACITY, OURS, PROXIES, Row, Scene, rows, run, scenes, verdicts


def test_answers_count_for_sessions_that_are_not_cut() -> None:
    scene = Scene("sessions of 2 at 300%", (Crowd("sessions", 0.0, 4.0, 1.0, length=2, think=0.1),))
    seen = [
        Seen("sessions", 1, 0, 2, 2.1, 0.1, 200),
        Seen("sessions", 1, 1, 2, 2.3, 0.1, 200),
        Seen("sessions", 2, 0, 2, 2.1, 0.1, 200),
        Seen("sessions", 2, 1, 2, 2.3, 0.1, 503),
        Seen("sessions", 3, 0, 2, 2.1, 0.1, 503),
        Seen("sessions", 4, 0, 2, 3.9, 0.1, 200),
        Seen("sessions", 4, 1, 2, 4.2, 0.1, 200),
        Seen("sessions", 5, 0, 2, 3.9, 0.1, 200),
        Seen("sessions", 5, 1, 2, 4.2, 0.1, 503),
    ]
    (row,) = rows(scene, OURS, seen, 100.0)
    assert row.requests == 7
    assert row.good == pytest.approx(5 / 7, abs=0.001)
    assert row.kept == pytest.approx(3 / 2.0 / CAPACITY, abs=0.001)
    assert row.aborted == 0.5


def test_after_a_step_it_counts_until_when_answers_are_late() -> None:
    crowds = (Crowd("all", 0.0, 3.0, 1.0), Crowd("all", 3.0, 6.0, 1.0))
    late = [Seen("all", 1, 0, 1, 3.7, 0.9, 200), Seen("all", 2, 0, 1, 4.2, 0.1, 200), Seen("all", 3, 0, 1, 4.9, 5, 503)]
    (row,) = rows(Scene("step", crowds), OURS, late, 100.0)
    assert row.recovery == 1.0


def test_the_same_requests_come_each_time_and_sessions_have_their_length() -> None:
    plan = Plan(1, (Crowd("a", 0.0, 100.0, 20.0, length=5.0, think=1.0, sources=3),), mean=0.04)
    arrivals = list(plan.arrivals())
    assert arrivals == list(plan.arrivals())
    assert sum(len(sizes) for *_, sizes in arrivals) / len(arrivals) == pytest.approx(5, rel=0.1)
    assert {source for _, _, _, source, _ in arrivals} == {"10.0.0.0", "10.0.0.1", "10.0.0.2"}


def test_goals_are_of_the_gateway() -> None:
    def row(scene: str, crowd: str, p99: float, proxy: str = OURS) -> Row:
        return Row(scene, proxy, crowd, 100, 1.0, 0.5, 1.0, p99)

    found = [row("priorities at 50%", "gold", 100), row("priorities at 200%", "gold", 140)]
    found.append(row("priorities at 200%", "gold", 900, "nginx max_conns"))
    (verdict,) = verdicts(found)
    assert (verdict.figure, verdict.reached) == (1.4, True)


def test_a_real_gateway_sheds_the_lower_class() -> None:
    scene = next(scene for scene in scenes(2.0) if scene.name == "priorities at 200%")
    gold, rest = rows(scene, OURS, run(PROXIES[0], scene), math.nan)
    assert gold.good > 0.9
    assert rest.good < 0.6
    assert gold.p99 < 1000
