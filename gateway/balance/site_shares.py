"""How clients are shared out among sites. Pure: times are seconds of any monotonic clock.

What each policy wants is a share of clients for each site (`wanted`). A Balance moves the shares in force towards
these, at most `shift` of all clients per TTL: resolvers keep an answer for so long, so the effect of a move is seen in
the load only after a TTL, and a faster one would send all clients to the site that was the emptiest. A site that does
not work gets nothing at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gateway.config.dns import BalancedName, Policy

Shares: TypeAlias = dict[str, float]
"""The part of clients that gets each site first; the sum is 1."""
Order: TypeAlias = tuple[str, ...]
"""Sites, best first."""

LEAST_ROOM: Final = 0.02
"""Of its capacity, for a full site: it stays among the answers, so that its load goes on being compared."""
SPILL_FROM: Final = 0.8
"""Load from which a site shares the clients that prefer it; at 1 it gets none of them beyond its share."""
TURNS: Final = 120
"""Answers until the order of sites repeats."""


@dataclass(frozen=True, slots=True)
class SiteState:
    """What is known of a site. `load`: 1 is full. `capacity`: requests per second that would fill it; None: unknown."""

    up: bool = True
    draining: bool = False
    load: float | None = None
    capacity: float | None = None
    trust: float = 1.0
    """Falls to 0 while it is silent."""

    @property
    def live(self) -> bool:
        """Whether it takes clients."""
        return self.up and not self.draining


UNKNOWN: Final = SiteState()


def states_of(said: Mapping[str, Mapping[str, Any]] | None) -> dict[str, SiteState]:
    """The states of sites as control describes them in JSON (gateway/control/sites.py)."""
    keys = SiteState.__slots__
    return {name: SiteState(**{key: state[key] for key in keys}) for name, state in (said or {}).items()}


@dataclass(frozen=True, slots=True)
class Plan:
    """How a name picks sites; names with equal plans share the shares. `sites`: in the order of the site file."""

    policy: Policy
    sites: Order
    weights: tuple[int, ...]
    ttl: float
    shift: float

    @classmethod
    def of(cls, model: BalancedName) -> "Plan":
        """That of a name."""
        sites = tuple(model.sites)
        return cls(model.policy, sites, tuple(model.weights.get(site, 1) for site in sites), model.ttl, model.shift)


def live(sites: Sequence[str], states: Mapping[str, SiteState]) -> tuple[list[str], bool]:
    """The sites that take clients, and whether there are any; if not, all: a wrong verdict must not end a service."""
    found = [site for site in sites if states.get(site, UNKNOWN).live]
    return found or list(sites), bool(found)


def room(sites: Sequence[str], states: Mapping[str, SiteState], weights: Mapping[str, int]) -> dict[str, float]:
    """The capacity that each site has left.

    Weights are the capacities unless that of every site is measured: the two have no unit in common. A site of unknown
    load counts as loaded as the others on average.
    """
    known = [state.load for site in sites if (state := states.get(site, UNKNOWN)).load is not None]
    average = sum(known) / len(known) if known else 0.5
    measured = {site: states.get(site, UNKNOWN).capacity for site in sites}
    found = {}
    for site in sites:
        capacity = measured[site] if all(measured.values()) else float(weights[site])
        load = states.get(site, UNKNOWN).load
        assert capacity is not None  # noqa: S101 - all of them or none
        trust = states.get(site, UNKNOWN).trust
        found[site] = capacity * max(LEAST_ROOM, trust * (1.0 - (average if load is None else load)))
    return found


def wanted(plan: Plan, states: Mapping[str, SiteState], prefers: str | None = None) -> Shares:
    """The shares that the policy aims at, for clients that prefer a site or none."""
    sites, _ = live(plan.sites, states)
    weights = dict(zip(plan.sites, plan.weights, strict=True))
    match plan.policy:
        case "round-robin":
            shares = _normal(dict.fromkeys(sites, 1.0))
        case "weighted":
            shares = _normal({site: float(weights[site]) for site in sites})
        case "failover":
            shares = _normal({site: float(site == sites[0]) for site in sites})
        case _:  # load, and nearest for those who are near none
            shares = _normal(room(sites, states, weights))
    if prefers not in shares:
        return shares
    load = states.get(prefers, UNKNOWN).load or 0.0
    kept = 1.0 if plan.policy == "failover" else min(1.0, max(0.0, (1.0 - load) / (1.0 - SPILL_FROM)))
    return {site: share * (1.0 - kept) + (kept if site == prefers else 0.0) for site, share in shares.items()}


def _normal(parts: Mapping[str, float]) -> Shares:
    total = sum(parts.values())
    return {site: part / total for site, part in parts.items()}


class Balance:
    """The shares in force of one plan, for the clients that prefer one site or none."""

    def __init__(self, plan: Plan, prefers: str | None = None) -> None:
        self.plan = plan
        self.prefers = prefers
        self.shares: Shares = {}
        self.open = True
        """No site works, and all are answered."""
        self._moved: float | None = None
        self._orders: tuple[Order, ...] = ()

    def move(self, states: Mapping[str, SiteState], now: float) -> bool:
        """Move towards what is wanted; whether anything has changed."""
        sites, some = live(self.plan.sites, states)
        target = wanted(self.plan, states, self.prefers)
        elapsed = 0.0 if self._moved is None else max(0.0, now - self._moved)
        first = self._moved is None
        self._moved = now
        before, self.open = self.shares, not some
        kept = {site: before.get(site, 0.0) for site in sites}
        # A policy of fixed shares has nothing that a client's arrival would change: it needs no damping.
        if first or sum(kept.values()) <= 0.0 or self.plan.policy in {"round-robin", "weighted", "failover"}:
            self.shares = target
        else:
            self.shares = _towards(_normal(kept), target, self.plan.shift * elapsed / max(self.plan.ttl, 1.0))
        if self.shares != before:
            self._orders = ()
        return self.shares != before

    @property
    def orders(self) -> tuple[Order, ...]:
        """TURNS orders of the sites, to be given in turn."""
        if not self._orders:
            self._orders = tuple(orders(self.shares))
        return self._orders


def _towards(before: Shares, target: Shares, most: float) -> Shares:
    """Move at most `most` of all clients; the sum stays 1."""
    moving = sum(max(0.0, target[site] - before[site]) for site in target)
    if moving <= most or moving < 1e-9:
        return target
    part = most / moving
    return {site: before[site] + (target[site] - before[site]) * part for site in target}


def orders(shares: Mapping[str, float], turns: int = TURNS) -> Iterable[Order]:
    """Orders in which each site is first as often as its share, and second in proportion among the others, and so on.

    Evenly spread: any run of answers meets the shares (smooth weighted round-robin at each place).
    """
    gained: dict[Order, dict[str, float]] = {}
    for _ in range(turns):
        order: Order = ()
        left = dict(shares)
        while left:
            credit = gained.setdefault(order, {})
            total = sum(left.values())
            parts = left if total > 0 else dict.fromkeys(left, 1.0)
            total = total if total > 0 else float(len(left))
            for site, part in parts.items():
                credit[site] = credit.get(site, 0.0) + part / total
            best = max(left, key=lambda site: (credit[site], left[site]))
            credit[best] -= 1.0
            order = (*order, best)
            del left[best]
        yield order
