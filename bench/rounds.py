"""CPU per request and requests per second of every case, in turns: A B C, A B C."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.cases import Case
from bench.farm import Farm, FarmFailed, Running
from bench.figure import Figure
from bench.load import Load, LoadFailed, Outcome
from bench.meter import Usage


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one proxy: CPU in microseconds per request; the share of requests that came over a connection to a
    server which had carried one before; what the load saw.
    """

    cpu: float
    user: float
    reuse: float
    outcome: Outcome

    def metrics(self) -> dict[str, float]:
        """Return what is kept of it."""
        return {
            "cpu": self.cpu,
            "user": self.user,
            "system": self.cpu - self.user,
            "rate": self.outcome.rate,
            "reuse": self.reuse,
        }

    def latencies(self) -> dict[str, float]:
        """Return what is kept of a turn at a constant rate."""
        outcome = self.outcome
        return {"cpu": self.cpu, "p50": outcome.p50, "p99": outcome.p99, "p999": outcome.p999}


def turn(farm: Farm, proxy: Running, load: Load) -> Turn:
    """Load one proxy and measure it, without what it costs to connect. Raises FarmFailed, which names the proxy."""
    try:
        with farm.generator.ready(load, proxy.port(load)) as ready:
            connections = farm.counters()[0]
            before = Usage.of(proxy.pid)
            outcome = ready.go()
            used = Usage.of(proxy.pid).since(before)
            connections = farm.counters()[0] - connections
    except LoadFailed as error:
        raise FarmFailed(f"{proxy.name}, {load.path}: {error}") from None
    expect(outcome, load, proxy)
    count = outcome.requests
    return Turn(used.total / count, used.user_total / count, 1 - connections / count, outcome)


def expect(outcome: Outcome, load: Load, proxy: Running) -> None:
    """Raise FarmFailed if not everything that was asked for happened."""
    if outcome.errors or not outcome.requests:
        raise FarmFailed(f"{proxy.name}: {outcome.errors} errors in {outcome.requests} requests of {load.path}")
    if load.resume and outcome.resumed < 0.99 * outcome.handshakes:
        raise FarmFailed(f"{proxy.name} resumed {outcome.resumed} of {outcome.handshakes} sessions")


def takes_part(proxy: Running, case: Case) -> bool:
    """Tell whether a proxy can serve a case, and is set up for it."""
    return (proxy.peer.tls or not case.load.tls) and (case.large or not proxy.peer.large_only)


class Turns:
    """The turns of a measurement, by case and proxy, on their way to figures."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)

    def add(self, case: str, proxy: str, metrics: dict[str, float]) -> None:
        """Add what one turn gave."""
        self._found[case, proxy].append(metrics)

    def figures(self) -> list[Figure]:
        """Return a figure for every metric."""
        return [
            Figure(case, proxy, metric, tuple(metrics[metric] for metrics in found))
            for (case, proxy), found in self._found.items()
            for metric in found[0]
        ]


def measure(farm: Farm, cases: Sequence[Case], seconds: float, turns: Turns) -> None:
    """Add a round to `turns`: every case on every proxy, `seconds` long. Raises FarmFailed."""
    for case in cases:
        load = replace(case.load, seconds=seconds)
        for proxy in farm.proxies:
            if takes_part(proxy, case):
                turns.add(case.name, proxy.name, turn(farm, proxy, load).metrics())
