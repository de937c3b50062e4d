"""Reduces the measured values to one number: how close the machine is to its nearest limit."""

from collections.abc import Mapping
from dataclasses import dataclass

from loadagent.report import MAX_SHARE


@dataclass(frozen=True, slots=True)
class Sample:
    """The measurements of one moment.

    `values` and `limits` are in each metric's own unit. A metric with a limit but no value could not be measured: it
    is left out of the score, because a guess in either direction would move traffic without reason.
    """

    values: Mapping[str, float]
    limits: Mapping[str, float]

    @property
    def shares(self) -> dict[str, float]:
        """Each measured metric as a share of its limit, never below 0.0; above 1.0 is overload."""
        measured = ((name, self.values[name] / limit) for name, limit in self.limits.items() if name in self.values)
        return {name: min(MAX_SHARE, max(0.0, share)) for name, share in measured}

    @property
    def score(self) -> float | None:
        """The largest share: the scarcest resource determines the load. None if nothing could be measured."""
        return max(self.shares.values(), default=None)
