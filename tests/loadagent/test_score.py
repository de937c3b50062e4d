import pytest

from loadagent.report import MAX_SHARE
from loadagent.score import Sample


@pytest.mark.parametrize(
    "values, limits, score",
    [
        ({"cpu": 0.5, "memory": 0.9}, {"cpu": 1.0, "memory": 0.95}, 0.9 / 0.95),
        ({"cpu": 0.5, "run_queue": 3.0}, {"cpu": 1.0, "run_queue": 2.0}, 1.5),
        ({"cpu": 0.5}, {"cpu": 1.0, "url": 100.0}, 0.5),  # what cannot be measured is left out
        ({"cpu": 0.5, "memory": 0.9}, {"cpu": 1.0}, 0.5),  # what has no limit does not count
        ({"command": -3.0}, {"command": 10.0}, 0.0),
        ({"command": 1e300}, {"command": 1e-3}, MAX_SHARE),
        ({}, {"cpu": 1.0}, None),
    ],
)
def test_score(values: dict[str, float], limits: dict[str, float], score: float | None) -> None:
    assert Sample(values, limits).score == score
