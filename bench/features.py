"""The cost of all features together: `measured`, cookie affinity, classes, a thousand routes before the right one."""

import http.client
from dataclasses import replace

from bench.cases import SMALL
from bench.farm import FarmFailed, Layout, Running, farm
from bench.figure import Figure
from bench.load import Load
from bench.peers.gateway import CLASSES, COOKIE, GATEWAY
from bench.rounds import Turns, turn

ROUTES = 1000
PLAIN = f"{SMALL.name}, plain"
ALL_ON = f"{SMALL.name}, measured + affinity + {len(CLASSES)} classes + {ROUTES:,} routes"


def returning(load: Load, proxy: Running, name: str = COOKIE) -> Load:
    """Return the load of a returning client: with the cookie `name` that it has received. Raises FarmFailed."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.setup.port, timeout=10)
    connection.request("GET", load.path)
    given = connection.getresponse().getheader("Set-Cookie", "")
    connection.close()
    if not given.startswith(f"{name}="):
        raise FarmFailed(f"no cookie {name} came: {given!r}")
    cookie = given.partition(";")[0]
    fields = tuple(f"{field}; {cookie}" if field.startswith("Cookie:") else field for field in load.fields)
    return replace(load, fields=fields)


def measure(rounds: int, seconds: float) -> list[Figure]:
    """Return CPU and rate of the gateway, plain and with everything on. Raises FarmFailed."""
    turns = Turns()
    load = replace(SMALL.load, seconds=seconds)
    with farm([GATEWAY], Layout()) as plain, farm([GATEWAY], Layout(routes=ROUTES, features=True)) as full:
        proxy = full.proxies[0]
        known = returning(load, proxy)
        for _ in range(rounds):
            turns.add(PLAIN, GATEWAY.name, turn(plain, plain.proxies[0], load).metrics())
            turns.add(ALL_ON, GATEWAY.name, turn(full, proxy, known).metrics())
    return turns.figures()
