"""Computes effective weights from servers' reports and throughput. Pure: the time is passed in.

The basis is the weighting of gRPC's proposal A58: a server that completes `rate` requests per second at utilization
`load` could do `rate / load`, its capacity. This alone has pitfalls, each with a countermeasure here:

* Other work on the server (a backup, a neighbour) makes the capacity look smaller the fewer requests it gets: weights
would decrease to nothing. So capacity counts only as far as the backend is busy and the server gets enough requests to
judge by; otherwise headroom (`1 - load`) decides, which does not depend on the requests it gets.
* A load that no request causes (memory) would make capacity only reflect the weight: a server that has more
gets more. Headroom always counts, and corrects such weights.
* Noise and delay make a control loop oscillate. Measured and set values pass one exponential average each.
* Without a recent report, a server's weight drifts to the mean of those that report.

`weight` is taken as a server's size: equal load at twice the weight means twice the capacity.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

TIME_CONSTANT = 2.0  # seconds of each exponential average
MIN_FACTOR = 0.1  # of the configured weight: enough traffic to notice that a server has recovered
MAX_FACTOR = 4.0
MIN_HEADROOM = 0.05
MIN_SHARE = 0.01  # as agents count, in percent
MIN_LOAD = 0.01  # below, a reported load is noise, and a capacity computed from it unbounded
ENOUGH_RATE = 5.0  # requests per second at which capacity has half its full influence
MAX_CAPACITY_SAY = 0.8
ERROR_PENALTY = 1.0  # load added when every request fails, the default of A58


@dataclass(frozen=True, slots=True)
class Observation:
    """The current figures of a server.

    `weight` is the configured one, `rate` the finished requests a second, `failure_ratio` the share of them
    that failed. `load` is 1.0 when full, None without a fresh report or when the server is out of rotation.
    """

    weight: float
    rate: float
    failure_ratio: float
    load: float | None


def targets(servers: Sequence[Observation]) -> list[float]:
    """Return the weight each server of a backend should get, in the order given.

    Every one is within [MIN_FACTOR, MAX_FACTOR] of its configured weight. Without any report they are exactly
    the configured weights.
    """
    reported = [
        (server, server.load + server.failure_ratio * ERROR_PENALTY) for server in servers if server.load is not None
    ]
    factors = _factors(reported)
    neutral = sum(factors) / len(factors) if factors else 1.0
    following = iter(factors)
    return [server.weight * (neutral if server.load is None else next(following)) for server in servers]


def shares(servers: Sequence[tuple[float, float | None]]) -> list[float]:
    """Return the weight of each server, given the configured one and the share requested by its text agent.

    Servers without a share get the mean of the others. A share of 0 means drain: no weight is 0.
    """
    known = [share for _, share in servers if share is not None]
    neutral = sum(known) / len(known) if known else 1.0
    return [weight * max(MIN_SHARE, neutral if share is None else share) for weight, share in servers]


def approach(now: float, target: float, elapsed: float) -> float:
    """Return the value of an exponential average at `now` after `elapsed` seconds."""
    return target + (now - target) * math.exp(-elapsed / TIME_CONSTANT)


def _factors(servers: Sequence[tuple[Observation, float]]) -> list[float]:
    """Return the factor for each server's weight, given its load with the penalty for failures."""
    if not servers:
        return []
    mean_load = sum(load for _, load in servers) / len(servers)
    mean_headroom = sum(_headroom(load) for _, load in servers) / len(servers)
    busy = min(MAX_CAPACITY_SAY, mean_load)
    says = [busy * server.rate / (server.rate + ENOUGH_RATE) for server, _ in servers]
    capacities = [server.rate / max(load, MIN_LOAD) / server.weight for server, load in servers]
    # The mean covers the servers that can be judged; without requests, capacity has no influence.
    mean_capacity = sum(map(operator.mul, says, capacities)) / (sum(says) or 1.0) or 1.0
    factors = (
        (1.0 - say) * _headroom(load) / mean_headroom + say * capacity / mean_capacity
        for (_, load), say, capacity in zip(servers, says, capacities, strict=True)
    )
    return [min(MAX_FACTOR, max(MIN_FACTOR, factor)) for factor in factors]


def _headroom(load: float) -> float:
    return max(MIN_HEADROOM, 1.0 - load)
