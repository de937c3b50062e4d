"""Who should have an address: a pure choice among those that are there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.heartbeat.beat import AdminState, Stake

WAIT: Final = 1.5
"""Leases that the next in line leaves to the one before it, and for which one asks in vain before it lets others."""
STEADY: Final = 2.0
"""Leases for which another must have been the better one until an owner makes way for it."""


@dataclass(frozen=True, slots=True)
class Runner:
    """A node as a candidate for one address. `fitness`: 0 (cannot have it) to 255; `place`: in the preferred order."""

    node: str
    place: int
    fitness: int
    admin_state: AdminState = AdminState.JOIN
    stake: Stake = Stake.IDLE
    since: float = float("-inf")
    """When it became alive."""

    @property
    def eligible(self) -> bool:
        """Whether it could take the address."""
        return self.fitness > 0 and self.admin_state is AdminState.JOIN

    @property
    def key(self) -> tuple[bool, int, int]:
        """Smaller is better."""
        return (not self.eligible, -self.fitness, self.place)


def owner(others: Iterable[Runner]) -> Runner | None:
    """Who owns it, as far as is heard; the better one of two that say so."""
    owners = (runner for runner in others if runner.stake is Stake.OWNING)
    return min(owners, key=lambda runner: runner.key, default=None)


def wait(me: Runner, others: Sequence[Runner], lease: float) -> float | None:
    """Seconds that the address must have been without an owner before `me` asks for it; None: not now."""
    if not me.eligible or owner(others) is not None:
        return None
    better = sum(other.eligible and other.key < me.key for other in others)
    return better * WAIT * lease


def make_way(me: Runner, others: Sequence[Runner], *, failback: bool) -> Runner | None:
    """For whom an owner should make way, if this stays so for a while.

    Without `failback` only for one that is fitter, not for one that is merely preferred.
    """
    best = min((other for other in others if other.eligible), key=lambda runner: runner.key, default=None)
    if best is None or best.key >= me.key:
        return None
    return best if failback or not me.eligible or best.fitness > me.fitness else None
