"""From one worker to two: how much more a proxy can do with twice the processors.

There are two processors in all, so load and proxies share both. What counts is therefore not requests per second but
what a worker can do in a second of processor time: two workers do `2 * cpu of one / cpu of two` times as much as one.
"""

from collections.abc import Sequence
from dataclasses import replace

from bench.cases import SMALL
from bench.farm import Layout, farm
from bench.figure import Figure, Figures
from bench.peers.peer import Peer
from bench.rounds import Turns, turn

SHARED = "0,1"


def name(workers: int) -> str:
    """Return what the case is called."""
    return f"{SMALL.name}, {workers} worker{'s' if workers > 1 else ''} on two processors"


def measure(peers: Sequence[Peer], rounds: int, seconds: float) -> list[Figure]:
    """Return CPU with one worker and with two, and `scaling` at the latter. Raises FarmFailed."""
    turns = Turns()
    layout = Layout(proxy_cores=SHARED, load_cores=SHARED)
    with farm(peers, layout) as one, farm(peers, replace(layout, workers=2)) as two:
        for _ in range(rounds):
            for alone, both in zip(one.proxies, two.proxies, strict=True):
                for workers, running, proxy in ((1, one, alone), (2, two, both)):
                    # As many connections per worker in both: so much comes at a time.
                    load = replace(SMALL.load, connections=SMALL.load.connections * workers, seconds=seconds)
                    turns.add(name(workers), proxy.name, turn(running, proxy, load).metrics())
    figures = turns.figures()
    found = Figures(figures)
    for peer in peers:
        single, double = found.get(name(1), peer.name, "cpu"), found.get(name(2), peer.name, "cpu")
        assert single  # noqa: S101 - measured above
        assert double  # noqa: S101
        gain = tuple(2 * a / b for a, b in zip(single.values, double.values, strict=True))
        figures.append(Figure(name(2), peer.name, "scaling", gain))
    return figures
