"""The balancing policies by their names in the site file."""

from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.balance.by_key import ByKey
from gateway.balance.least_connections import LeastConnections
from gateway.balance.measured import Measured
from gateway.balance.policy import Policy
from gateway.balance.round_robin import RoundRobin
from gateway.balance.two_choices import TwoChoices
from gateway.balance.weighted_least_connections import WeightedLeastConnections
from gateway.balance.weighted_round_robin import WeightedRoundRobin

POLICIES: Final[dict[str, Callable[[], Policy]]] = {
    "measured": Measured,
    "round-robin": RoundRobin,
    "weighted-round-robin": WeightedRoundRobin,
    "least-connections": LeastConnections,
    "weighted-least-connections": WeightedLeastConnections,
    "two-choices": TwoChoices,
    "source-hash": partial(ByKey, "address"),
    "uri-hash": partial(ByKey, "uri"),
}


def policy(balance: str) -> Policy:
    """The policy a site file means: a name, or header:NAME for the hash of a header."""
    kind, _, header = balance.partition(":")
    return ByKey("header", header) if kind == "header" else POLICIES[balance]()
