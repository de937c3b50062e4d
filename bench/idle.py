"""The cost of idle connections: memory of the proxy, and CPU time of other requests."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from bench.cases import SMALL
from bench.farm import Layout, Running, farm
from bench.figure import Figure
from bench.load import Load
from bench.meter import settled_memory
from bench.peers.floor import FLOOR
from bench.peers.peer import Peer
from bench.rounds import Turns, turn

COUNTS = (1000, 10_000)
WARM = 100
"""Connections before the first look at the memory: so that one-time allocations have been made."""
FLOOR_MOST = 5000
"""Idle clients of the floor: it has a connection to a server for each, and descriptors are limited."""


def idle(count: int, *, tls: bool = False) -> Load:
    """Return a load that leaves its connections idle after a request on each."""
    return Load("/bytes/10", connections=count, tls=tls, addresses=50, fields=())


def memory(peer: Peer, count: int, *, tls: bool) -> float:
    """Return bytes of memory per idle connection. Raises FarmFailed, LoadFailed."""
    with farm([peer], Layout()) as running, ExitStack() as stack:
        proxy: Running = running.proxies[0]
        port = proxy.setup.tls_port if tls else proxy.setup.port
        stack.enter_context(running.generator.ready(idle(WARM, tls=tls), port, "-i"))
        before = settled_memory(proxy.pid)
        stack.enter_context(running.generator.ready(idle(count, tls=tls), port, "-i"))
        return (settled_memory(proxy.pid) - before) / count


def name(count: int, *, tls: bool) -> str:
    """Return what a case of idle connections is called."""
    return f"{count:,} idle{' TLS' if tls else ''}"


def beside(count: int) -> str:
    """Return what the case of requests beside idle connections is called."""
    return f"{SMALL.name} beside {count:,} idle"


def measure_memory(peers: Sequence[Peer]) -> list[Figure]:
    """Return memory per idle connection, plain and TLS. Raises FarmFailed, LoadFailed."""
    return [
        Figure(name(count, tls=tls), peer.name, "memory", (memory(peer, count, tls=tls),))
        for count in COUNTS
        for tls in (False, True)
        for peer in peers
        if peer.name != FLOOR.name
    ]


def measure_beside(peers: Sequence[Peer], rounds: int, seconds: float) -> list[Figure]:
    """Return CPU and rate beside idle connections. Raises FarmFailed, LoadFailed."""
    turns = Turns()
    load = replace(SMALL.load, seconds=seconds)
    for count in COUNTS:
        present = [peer for peer in peers if peer.name != FLOOR.name or count <= FLOOR_MOST]
        with farm(present, Layout()) as running, ExitStack() as stack:
            for proxy in running.proxies:
                stack.enter_context(running.generator.ready(idle(count), proxy.setup.port, "-i"))
            for _ in range(rounds):
                for proxy in running.proxies:
                    turns.add(beside(count), proxy.name, turn(running, proxy, load).metrics())
    return turns.figures()
