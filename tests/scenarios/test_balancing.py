"""Balancing policies through the whole gateway."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.load import Load
from tests.support.raw import RawClient
from tests.support.switch_server import SwitchServer

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


@pytest.mark.parametrize(
    "balance, requests",
    [
        ("uri-hash", [("/who?%d", "") for _ in range(1)]),
        ({"hash": "header:X-Tenant"}, [("/who", "X-Tenant: t%d")]),
    ],
    ids=["uri-hash", "header"],
)
def test_the_same_key_goes_to_the_same_server_over_workers_and_reloads(
    lend_gateway: Starter, start_servers: Servers, balance: Any, requests: list[tuple[str, str]]
) -> None:
    servers = start_servers("app1", "app2", "app3")
    gateway = lend_gateway(site(servers, workers=2, balance=balance))

    def homes() -> list[bytes]:
        found = []
        for key in range(40):
            path, header = requests[0]
            with RawClient(gateway.port) as client:
                lines = [header % key] if header else []
                found.append(client.get(path % key if "%" in path else path, *lines).body)
        return found

    first = homes()
    assert len(set(first)) == 3
    assert homes() == first
    gateway.write(site(servers[::-1], workers=2, balance=balance) | {"frontends": gateway.site["frontends"]})
    gateway.reload()
    assert homes() == first


def test_one_client_stays_with_one_server_by_source_hash(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1", "app2", "app3"), workers=2, balance="source-hash"))
    bodies = set()
    for _ in range(10):
        with RawClient(gateway.port) as client:
            bodies.add(client.get("/who").body)
    assert len(bodies) == 1


def test_a_slow_server_gets_fewer_requests_by_measured_time(lend_gateway: Starter, start_servers: Servers) -> None:
    """Nobody says that app3 is slow."""
    with SwitchServer("app3") as slow:
        slow.work = (0.5, 200, ())
        gateway = lend_gateway(site([*start_servers("app1", "app2"), slow], workers=2, balance="measured"))
        with Load(gateway.port, "/delay/0.01", clients=4) as load:
            load.wait_for(200)
            before = load.servers.copy()
            load.wait_for(600)
            window = load.servers - before
    assert load.failures == []
    assert window["app3"] < 0.1 * window.total()
    assert min(window["app1"], window["app2"]) > 2 * window["app3"]


def test_a_server_that_fails_fast_does_not_attract_requests(lend_gateway: Starter, start_servers: Servers) -> None:
    servers = start_servers("app1", "app2")
    servers[1].kill()  # refuses in microseconds
    description = site(servers, workers=2, balance="measured", retries={"attempts": 0})
    gateway = lend_gateway(description)
    statuses = Counter[int]()
    lock = threading.Lock()

    def ask() -> None:
        with RawClient(gateway.port) as client:
            for _ in range(100):
                status = client.get("/delay/0.01").status
                with lock:
                    statuses[status] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses.total() == 400
    assert 0 < statuses[502] < 100  # it would get nearly all if its time counted
