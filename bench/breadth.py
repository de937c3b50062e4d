"""How the cost of a request depends on the number of connections in use and of servers to choose from."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from bench.cases import SMALL
from bench.farm import Layout, farm
from bench.figure import Figure
from bench.peers.floor import CHOOSING, FLOOR
from bench.peers.peer import Peer
from bench.rounds import Turns, turn

CONNECTIONS = (10, 100, 1000, 10_000)
SERVERS = (1, 10, 100, 1000)
RATE = 5000
"""Requests per second: what ten connections can carry in any proxy, and ten thousand too."""
FLOOR_MOST = 5000
"""Clients of the floor: it has a connection to a server for each, and descriptors are limited."""


def connections_name(count: int) -> str:
    """Return the name of the case with this number of connections."""
    return f"{SMALL.name}, {count:,} connections in use"


def servers_name(count: int) -> str:
    """Return the name of the case with this number of servers."""
    return f"{SMALL.name}, {count:,} server{'s' if count > 1 else ''}"


def measure_connections(peers: Sequence[Peer], rounds: int, seconds: float) -> list[Figure]:
    """Return CPU and latencies at one rate over more and more connections, which take turns. Raises FarmFailed."""
    turns = Turns()
    with farm(peers, Layout()) as running:
        for _ in range(rounds):
            for count in CONNECTIONS:
                # Long enough that each connection is used.
                load = replace(SMALL.load, connections=count, addresses=50).at(RATE, max(seconds, 1.2 * count / RATE))
                for proxy in running.proxies:
                    if proxy.name != FLOOR.name or count <= FLOOR_MOST:
                        turns.add(connections_name(count), proxy.name, turn(running, proxy, load).latencies())
    return turns.figures()


def measure_servers(peers: Sequence[Peer], rounds: int, seconds: float) -> list[Figure]:
    """Return CPU and rate before more and more servers. Raises FarmFailed."""
    turns = Turns()
    load = replace(SMALL.load, seconds=seconds)
    choosing = [CHOOSING if peer.name == FLOOR.name else peer for peer in peers]
    with ExitStack() as stack:
        farms = {count: stack.enter_context(farm(choosing, Layout(servers=count))) for count in SERVERS}
        for count, running in farms.items():
            for proxy in running.proxies:
                turn(running, proxy, replace(load, requests=10 * count))  # opens connections to all servers
        for _ in range(rounds):
            for count, running in farms.items():
                for proxy in running.proxies:
                    turns.add(servers_name(count), proxy.name, turn(running, proxy, load).metrics())
    return turns.figures()
