"""Which node should own an address: a pure choice among the nodes that are alive."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.heartbeat.beat import AdminState, Stake

WAIT: Final = 1.5
"""In leases: how long the next candidate waits for the one before it, and a candidate requests before it yields."""
STEADY: Final = 2.0
"""Leases for which another node must have been the better candidate before an owner yields."""


@dataclass(frozen=True, slots=True)
class Runner:
    """A node as a candidate for one address. `fitness`: 0 (cannot own it) to 255; `place`: in the preferred order."""

    node: str
    place: int
    fitness: int
    admin_state: AdminState = AdminState.JOIN
    stake: Stake = Stake.IDLE
    since: float = float("-inf")
    """When it became alive."""

    @property
    def eligible(self) -> bool:
        """Whether it could own the address."""
        return self.fitness > 0 and self.admin_state is AdminState.JOIN

    @property
    def key(self) -> tuple[bool, int, int]:
        """Sort key; smaller is better."""
        return (not self.eligible, -self.fitness, self.place)


def owner(others: Iterable[Runner]) -> Runner | None:
    """The owner according to the beats; of two that claim it, the better one."""
    owners = (runner for runner in others if runner.stake is Stake.OWNING)
    return min(owners, key=lambda runner: runner.key, default=None)


def wait(me: Runner, others: Sequence[Runner], lease: float) -> float | None:
    """Seconds for which the address must have been unowned before `me` requests it; None: not now."""
    if not me.eligible or owner(others) is not None:
        return None
    better = sum(other.eligible and other.key < me.key for other in others)
    return better * WAIT * lease


def make_way(me: Runner, others: Sequence[Runner], *, failback: bool) -> Runner | None:
    """The node to which an owner should yield, if this remains so for a while.

    Without `failback` only a fitter node, not one that is only preferred.
    """
    best = min((other for other in others if other.eligible), key=lambda runner: runner.key, default=None)
    if best is None or best.key >= me.key:
        return None
    return best if failback or not me.eligible or best.fitness > me.fitness else None
