"""CPU per request and requests per second of every case, in turns: A B C, A B C."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.cases import Case
from bench.farm import Farm, FarmFailed, Running
from bench.figure import Figure
from bench.load import Load, Outcome
from bench.meter import Usage


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one proxy: CPU in microseconds per request, and requests per second."""

    cpu: float
    user: float
    rate: float


def turn(farm: Farm, proxy: Running, load: Load) -> tuple[Turn, Outcome]:
    """Load one proxy and measure it, without what it costs to connect. Raises FarmFailed, LoadFailed."""
    with farm.generator.ready(load, proxy.port(load)) as ready:
        before = Usage.of(proxy.pid)
        outcome = ready.go()
        used = Usage.of(proxy.pid).since(before)
    expect(outcome, load, proxy)
    return Turn(used.total / outcome.requests, used.user_total / outcome.requests, outcome.rate), outcome


def expect(outcome: Outcome, load: Load, proxy: Running) -> None:
    """Raise FarmFailed if not everything that was asked for happened."""
    if outcome.errors or not outcome.requests:
        raise FarmFailed(f"{proxy.name}: {outcome.errors} errors in {outcome.requests} requests of {load.path}")
    if load.resume and outcome.resumed < 0.99 * outcome.handshakes:
        raise FarmFailed(f"{proxy.name} resumed {outcome.resumed} of {outcome.handshakes} sessions")


def can(proxy: Running, load: Load) -> bool:
    """Tell whether a proxy can serve a load."""
    return not load.tls or proxy.peer.tls


def measure(farm: Farm, cases: Sequence[Case], rounds: int, seconds: float) -> list[Figure]:
    """Return CPU and rate of every case and proxy; a turn is `seconds` long. Raises FarmFailed, LoadFailed."""
    turns: dict[tuple[str, str], list[Turn]] = defaultdict(list)
    for _ in range(rounds):
        for case in cases:
            load = replace(case.load, seconds=seconds)
            for proxy in farm.proxies:
                if can(proxy, load):
                    turns[case.name, proxy.name].append(turn(farm, proxy, load)[0])
    figures = []
    for (case_name, name), found in turns.items():
        for metric, values in (
            ("cpu", [item.cpu for item in found]),
            ("user", [item.user for item in found]),
            ("system", [item.cpu - item.user for item in found]),
            ("rate", [item.rate for item in found]),
        ):
            figures.append(Figure(case_name, name, metric, tuple(values)))
    return figures
