"""HTTP/2 to clients, and TLS to servers: CPU per request of the gateway, nginx and HAProxy.

The client of HTTP/2 is h2load (Debian package nghttp2-client): ten connections of ten streams each, with TLS.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace

from bench.cases import SMALL
from bench.farm import Farm, FarmFailed, Layout, Running, farm, refuse_busy
from bench.figure import Figure
from bench.load import BROWSER
from bench.meter import Usage
from bench.peers.floor import FLOOR
from bench.peers.peer import Peer
from bench.rounds import Turns

CLIENTS = 10
STREAMS = 10
SMALL_ANSWER = "HTTP/2, 130 B"
LARGE_ANSWER = "HTTP/2, 100 KB"
ANSWERS = ((SMALL_ANSWER, 130, 30_000), (LARGE_ANSWER, 100_000, 4000))
"""(case, bytes, requests in a turn)."""
TO_SERVERS = f"{SMALL.name}, TLS to servers"
TURN_SECONDS = 120.0
"""Time for a turn; it takes one to three seconds."""
SUCCEEDED = re.compile(rb"requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded")


def _turn(running: Farm, proxy: Running, size: int, requests: int) -> dict[str, float]:
    """Microseconds of CPU per request, connecting included. Raises FarmFailed if a request fails."""
    fields = [option for field in BROWSER for option in ("-H", field)]
    options = [f"-n{requests}", f"-c{CLIENTS}", f"-m{STREAMS}", *fields]
    url = f"https://127.0.0.1:{proxy.setup.tls_port}/bytes/{size}"
    before = Usage.of(proxy.pid)
    command = ["taskset", "-c", running.generator.cores, "h2load", *options, url]
    done = subprocess.run(command, capture_output=True, timeout=TURN_SECONDS, check=True)
    used = Usage.of(proxy.pid).since(before)
    found = SUCCEEDED.search(done.stdout)
    if not found or int(found[1]) != requests or b"Application protocol: h2" not in done.stdout:
        raise FarmFailed(f"{proxy.name}, {url}: {done.stdout.decode()}")
    return {"cpu": used.total / requests}


def measure(peers: Sequence[Peer], rounds: int, seconds: float, requests: float = 1.0) -> list[Figure]:
    """Measure in turns; `requests` is a part of the usual number of HTTP/2. Raises FarmFailed."""
    turns = Turns()
    peers = [peer for peer in peers if peer.name != FLOOR.name]
    for _ in range(rounds):
        with farm(peers, Layout()) as running:
            refuse_busy(running.proxies)
            for case, size, count in ANSWERS:
                for proxy in running.proxies:
                    turns.add(case, proxy.name, _turn(running, proxy, size, max(1, round(count * requests))))
        with farm(peers, Layout(tls=True)) as running:
            for proxy in running.proxies:
                turns.add(TO_SERVERS, proxy.name, _to_servers(running, proxy, seconds))
    return turns.figures()


def _to_servers(running: Farm, proxy: Running, seconds: float) -> dict[str, float]:
    load = replace(SMALL.load, seconds=seconds)
    with running.generator.ready(load, proxy.port(load)) as ready:
        before = Usage.of(proxy.pid)
        outcome = ready.go()
        used = Usage.of(proxy.pid).since(before)
    if outcome.errors or not outcome.requests:
        raise FarmFailed(f"{proxy.name}: {outcome.errors} errors in {outcome.requests} requests over TLS to servers")
    return {"cpu": used.total / outcome.requests}
