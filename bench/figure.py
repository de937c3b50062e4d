"""A figure: one measured number of one proxy in one case, with its spread over the rounds."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

UNITS = {
    "cpu": "µs per request",
    "user": "µs per request",
    "system": "µs per request",
    "rate": "requests per second",
    "reuse": "share of requests",
    "p50": "µs",
    "p99": "µs",
    "p999": "µs",
    "calls": "data system calls per request",
    "memory": "bytes per connection",
    "scaling": "times one worker",
    "start": "ms to the first answer",
    "reload": "ms until it is in force",
    "bump": "ms more than the longest latency without a reload",
}
"""Every metric and its unit."""


@dataclass(frozen=True, slots=True)
class Figure:
    """`values` of the rounds in their order; a figure that is taken once has one value."""

    case: str
    proxy: str
    metric: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between these lies the middle half of the values."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def over(self, other: "Figure") -> "Figure":
        """Return the ratio to another figure of the same rounds, round by round: drift affects both."""
        pairs = zip(self.values, other.values, strict=True)
        return Figure(self.case, self.proxy, f"{self.metric} ratio", tuple(mine / theirs for mine, theirs in pairs))

    def as_json(self) -> dict[str, object]:
        """Return what is kept in a result."""
        low, high = self.quartiles
        return {
            "case": self.case,
            "proxy": self.proxy,
            "metric": self.metric,
            "median": rounded(self.median),
            "low": rounded(low),
            "high": rounded(high),
            "rounds": len(self.values),
        }


def rounded(value: float) -> float:
    """Return a value with four significant digits: more is noise."""
    return float(f"{value:.4g}")


class Figures:
    """All figures of a run, by case, proxy and metric."""

    def __init__(self, figures: Iterable[Figure] = ()) -> None:
        self._found: dict[tuple[str, str, str], Figure] = {}
        for figure in figures:
            self.add(figure)

    def add(self, figure: Figure) -> None:
        """Add one; it must be new."""
        key = figure.case, figure.proxy, figure.metric
        if key in self._found:
            raise ValueError(f"measured twice: {key}")
        self._found[key] = figure

    def get(self, case: str, proxy: str, metric: str) -> Figure | None:
        """Return a figure, None if it was not measured."""
        return self._found.get((case, proxy, metric))

    def least(self, case: str, proxies: Sequence[str], metric: str) -> Figure | None:
        """Return the smallest of some proxies' figures."""
        found = [figure for proxy in proxies if (figure := self.get(case, proxy, metric))]
        return min(found, key=lambda figure: figure.median, default=None)

    def cases(self) -> list[str]:
        """Return the cases in the order in which they were measured."""
        return list(dict.fromkeys(case for case, _, _ in self._found))

    def proxies(self, case: str) -> list[str]:
        """Return the proxies of a case in their order."""
        return list(dict.fromkeys(proxy for of, proxy, _ in self._found if of == case))

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._found.values())
