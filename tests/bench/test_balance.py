"""The bench of balancing, in small: what it computes, and one workload with a real gateway."""

import math
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from bench.balance import OURS, PROXIES, Quality, measure, plot, quality, simulated, verdicts
from bench.queueing import Answer, workloads

SECONDS = 3.0


def test_the_oracle_is_not_beaten_where_queues_are_short() -> None:
    workload = workloads(20.0)[1]
    assert (workload.name, workload.load) == ("1:2:4", 0.5)
    oracle, ours, least = simulated(workload)
    assert oracle.p99 <= ours.p99 < least.p99
    assert oracle.requests == ours.requests > 1000


def test_answers_of_a_failing_server_are_not_quick_ones() -> None:
    workload = workloads(SECONDS)[0]
    answers = [Answer(due=1.0, seconds=0.1, good=number < 90, server=0) for number in range(100)]
    found = quality(workload, "x", answers)
    assert (found.p50, found.p99, found.failed, found.good) == (100.0, math.inf, 0.1, 0.9)


def row(workload: str, load: float, policy: str, p99: float) -> Quality:
    return Quality(workload, load, policy, 1000, 1.0, 2.0, p99, 0.9995, 0.0)


FOUND = [
    row("equal", 0.7, "oracle", 100),
    row("equal", 0.7, OURS, 101),
    row("equal", 0.7, "haproxy leastconn", 102),
    row("equal", 0.7, "nginx least_conn", 100.5),
    row("1:2:4", 0.7, "oracle", 100),
    row("1:2:4", 0.7, OURS, 120),
    row("1:2:4", 0.7, "haproxy leastconn", 200),
    row("one slow", 0.15, "oracle", 100),
    row("one slow", 0.15, OURS, 100),
    row("one slow", 0.15, "nginx random two", math.inf),
]


def test_goals() -> None:
    judged = {verdict.goal: verdict.reached for verdict in verdicts(FOUND)}
    assert judged == {
        "equal at 0.7: p99 / best peer": False,
        "1:2:4 at 0.7: p99 / oracle": True,
        "1:2:4 at 0.7: p99 / best peer": True,
        "one slow at 0.15: p99 / best peer": True,
        "one slow: good within 1 s": True,
    }
    worse = [replace(item, good=0.99, p99=item.p99 * (2 if item.policy == OURS else 1)) for item in FOUND]
    assert [verdict.reached for verdict in verdicts(worse)] == [False, False, False, True, False]
    assert verdicts([item for item in FOUND if item.policy in (OURS, "oracle")]) == []


def test_the_plot_is_a_picture() -> None:
    root = ET.fromstring(plot(FOUND))
    bars = [element for element in root if element.tag.endswith("rect")]
    assert len(bars) > len(FOUND)


@pytest.mark.skipif("len(__import__('os').sched_getaffinity(0)) < 2", reason="needs two processors")
def test_a_real_gateway_with_real_queues() -> None:
    (found,) = measure(0, workloads(SECONDS)[0], SECONDS, PROXIES[:1])
    assert (found.policy, found.failed) == (OURS, 0.0)
    assert found.requests > 50
    assert 1.0 < found.p50 < math.inf
