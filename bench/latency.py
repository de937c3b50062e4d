"""Latencies at half load: response times while no resource is scarce.

The rate is the same for all: half of what the better of nginx and HAProxy can do. A proxy that this brings near its
own limit is left out: it would show its queue, not its latency.
"""

from dataclasses import replace

from bench.cases import CASES, Case
from bench.farm import Farm
from bench.figure import Figure
from bench.peers.all import MEASURED_AGAINST
from bench.rounds import Turns, takes_part, turn

HALF = 0.5
BUSY = 0.8
"""Share of a proxy's own limit from which on it is left out."""
ASKED = [case for case in CASES if case.name in {"130 B", "10 KB", "TLS keep-alive"}]


def name(case: Case) -> str:
    """Return what a case is called at half load."""
    return f"{case.name} at half load"


def measure(farm: Farm, rounds: int, seconds: float) -> list[Figure]:
    """Return p50, p99, p99.9 and CPU of every case and proxy that can keep up. Raises FarmFailed."""
    turns = Turns()
    for case in ASKED:
        proxies = [proxy for proxy in farm.proxies if takes_part(proxy, case)]
        limits = {
            proxy.name: turn(farm, proxy, replace(case.load, seconds=seconds / 2)).outcome.rate for proxy in proxies
        }
        known = [limits[peer] for peer in MEASURED_AGAINST if peer in limits] or list(limits.values())
        load = case.load.at(round(HALF * max(known)), seconds)
        for _ in range(rounds):
            for proxy in proxies:
                if load.rate < BUSY * limits[proxy.name]:
                    turns.add(name(case), proxy.name, turn(farm, proxy, load).latencies())
    return turns.figures()
