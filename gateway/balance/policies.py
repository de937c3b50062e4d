"""The balancing policies by their names in the site file."""

from gateway.balance.least_connections import LeastConnections
from gateway.balance.measured import Measured
from gateway.balance.policy import Policy
from gateway.balance.round_robin import RoundRobin
from gateway.balance.weighted_least_connections import WeightedLeastConnections
from gateway.balance.weighted_round_robin import WeightedRoundRobin

POLICIES: dict[str, type[Policy]] = {
    "measured": Measured,
    "round-robin": RoundRobin,
    "weighted-round-robin": WeightedRoundRobin,
    "least-connections": LeastConnections,
    "weighted-least-connections": WeightedLeastConnections,
}
