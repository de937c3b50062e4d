"""The balancing policies: their names in the site file, and their classes. To add one, add a line here.

The classes are named, not imported: the site file can be checked without the compiled modules.
"""

from typing import Final

POLICIES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "measured": ("measured.Measured", ()),
    "round-robin": ("round_robin.RoundRobin", ()),
    "weighted-round-robin": ("weighted_round_robin.WeightedRoundRobin", ()),
    "least-connections": ("least_connections.LeastConnections", ()),
    "weighted-least-connections": ("weighted_least_connections.WeightedLeastConnections", ()),
    "two-choices": ("two_choices.TwoChoices", ()),
    "source-hash": ("by_key.ByKey", ("address",)),
    "uri-hash": ("by_key.ByKey", ("uri",)),
}
"""Name → module and class in gateway/balance, and the arguments of the class."""
