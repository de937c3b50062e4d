"""What single clients see of `measured`, in simulation."""

import math
import re
from pathlib import Path
from statistics import median

import pytest

from bench.light import OneClient, false_alarms

BALANCING = Path(__file__).parents[2] / "docs" / "balancing.md"


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("sigma", [0.5, 1.0])
@pytest.mark.parametrize("think", [0.0, 0.1, 2.0])
def test_equal_servers_keep_their_shares(sigma: float, think: float, workers: int) -> None:
    shares = OneClient(sigma, think, workers).least_of_equals()
    assert median(shares) >= 0.8
    assert shares[0] >= 0.6


def test_a_server_twice_as_slow_is_told_apart_within_50_requests() -> None:
    assert median(OneClient(0.5).share_of_a_slow_one()) < 0.05
    assert median(OneClient(0.5, think=0.1).share_of_a_slow_one()) < 0.1
    assert median(OneClient(0.5, think=2.0).share_of_a_slow_one()) < 0.2  # of a third


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("think", [0.0, 0.1, 2.0])
def test_a_server_that_turns_ten_times_slow_loses_its_traffic_within_three_requests(think: float, workers: int) -> None:
    assert median(OneClient(0.5, think, workers).until_left()) <= 3


def test_the_least_false_alarms_are_those_of_the_documents() -> None:
    rows = [line.split("|")[1:-1] for line in BALANCING.read_text().splitlines() if re.match(r"\| [1-5] \|", line)]
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4, 5]
    for row in rows:
        for sigma, said in zip((0.5, 0.75, 1.0), row[1:], strict=True):
            low, high = (false_alarms(sigma, int(row[0]), known) for known in (math.inf, 20))
            if said.strip().startswith("<"):
                assert high < float(said.strip(" <"))
            else:
                figures = [float(figure) for figure in said.split(" to ")]
                assert figures == pytest.approx([low, high], rel=0.2)
