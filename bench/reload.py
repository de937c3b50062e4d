"""A reload of a large site file under load: its duration, and its effect on clients.

Requests come at a constant rate, once without a reload and once with one in their midst. The `bump` is by how much the
longest latency of the second run exceeds that of the first.
"""

import os
import signal
import time
from pathlib import Path

from bench.cases import SMALL
from bench.farm import Farm, FarmFailed, Layout, Running, farm
from bench.figure import Figure
from bench.load import Load
from bench.peers.gateway import GATEWAY
from bench.rounds import Turns

ROUTES = 10_000
CASE = f"reload, {ROUTES:,} routes"
RATE = 1000
BEFORE = 0.5
"""Seconds of load before the reload."""
LONGEST = 30.0
DONE = "reloaded: "
REFUSED = "reload refused"


def probe(seconds: float) -> Load:
    """Return the load during the reload."""
    return SMALL.load.at(RATE, seconds)


def reload(proxy: Running) -> float:
    """Change the site file, reload it, and return the seconds until it is in force. Raises FarmFailed."""
    site = proxy.setup.directory / "gateway.yaml"
    log = proxy.setup.directory / "gateway.err"
    site.write_text(site.read_text().replace("/area-5/", "/area-5/new/", 1))
    seen = log.stat().st_size
    began = time.monotonic()
    os.kill(proxy.pid, signal.SIGHUP)
    while DONE not in (text := news(log, seen)):
        if REFUSED in text or time.monotonic() > began + LONGEST:
            raise FarmFailed(f"no reload within {LONGEST:g} s: {text}")
        time.sleep(0.002)
    return time.monotonic() - began


def news(log: Path, seen: int) -> str:
    """Return the log after its first `seen` bytes."""
    with log.open() as file:
        file.seek(seen)
        return file.read()


def bump(running: Farm, seconds: float) -> dict[str, float]:
    """Return how long a reload takes in milliseconds, and its `bump` in milliseconds. Raises FarmFailed, LoadFailed."""
    proxy = running.proxies[0]
    calm = running.generator.run(probe(seconds), proxy.setup.port)
    with running.generator.ready(probe(seconds), proxy.setup.port) as ready:
        ready.start()
        time.sleep(BEFORE)
        took = reload(proxy)
        if took > seconds - BEFORE:
            raise FarmFailed(f"the reload takes {took:.1f} s, longer than the load beside it")
        outcome = ready.finish()
    if calm.errors or outcome.errors:
        raise FarmFailed(f"{calm.errors} errors without a reload, {outcome.errors} with one")
    return {"reload": took * 1000, "bump": (outcome.longest - calm.longest) / 1000}


def measure(rounds: int) -> list[Figure]:
    """Return the duration of a reload and its effect on clients. Raises FarmFailed, LoadFailed."""
    turns = Turns()
    # As in production: the processes of the gateway may use all processors.
    with farm([GATEWAY], Layout(routes=ROUTES, proxy_cores="0,1")) as running:
        seconds = BEFORE + 2 * reload(running.proxies[0]) + 1.0
        for _ in range(rounds):
            turns.add(CASE, GATEWAY.name, bump(running, seconds))
    return turns.figures()
