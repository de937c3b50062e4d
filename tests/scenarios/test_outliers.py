"""Servers that answer badly are taken out, and come back slowly once they answer well."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.load import Load
from tests.support.switch_server import SwitchServer
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
OUTLIER = {"errors": 5, "eject_for": "1s"}


@pytest.fixture
def servers() -> Iterator[list[SwitchServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(SwitchServer(f"app{i}")) for i in (1, 2, 3)]


def fields(seconds: float = 0.0, status: int = 200) -> tuple[float, int, tuple[tuple[str, str], ...]]:
    return seconds, status, ()


def test_a_failing_server_is_ejected_probed_and_let_back(start_gateway: Starter, servers: list[SwitchServer]) -> None:
    """With round-robin, which does not mind who fails."""
    bad = servers[1]
    bad.work = fields(status=500)
    gateway = start_gateway(site(servers, workers=2, outlier=OUTLIER))
    with Load(gateway.port, "/work", clients=4) as load:
        gateway.wait_for_log("server app/app2 is ejected: [0-9]+ consecutive failures")
        load.wait_for(300)
        failed, good = len(load.failures), load.good
        load.wait_for(300)
        assert len(load.failures) - failed < 30  # of 450 without
        gateway.wait_for_log("server app/app2 is ejected: it fails again")
        bad.work = fields()
        gateway.wait_for_log("server app/app2 is in rotation")

        def shared() -> bool:
            before = load.servers["app2"]
            load.wait_for(300)
            return load.servers["app2"] - before > 75

        eventually(shared, "app2 to get its third", 20.0)
    assert len(load.failures) - failed < (load.good - good) / 10


def test_a_server_that_turns_slow_is_ejected(start_gateway: Starter, servers: list[SwitchServer]) -> None:
    for server in servers:
        server.work = fields(0.01)
    gateway = start_gateway(site(servers, workers=2, outlier=OUTLIER))
    with Load(gateway.port, "/work", clients=6) as load:
        load.wait_for(200)
        servers[2].work = fields(1.0)
        gateway.wait_for_log(
            r"server app/app3 is ejected: response time [0-9.]+ s, median of the others 0\.[0-9]+ s", seconds=30
        )
    assert load.failures == []


def test_a_server_that_comes_back_starts_slowly(start_gateway: Starter, servers: list[SwitchServer]) -> None:
    for server in servers:
        server.work = fields(0.05)
    servers[0].status = 503
    check = {"http": "/check", "interval": "100ms", "rise": 1, "fall": 1}
    gateway = start_gateway(site(servers, balance="measured", check=check, slow_start="6s"))
    with Load(gateway.port, "/work", clients=12) as load:
        gateway.wait_for_log("app1 is DOWN")
        load.wait_for(200)
        servers[0].status = 200
        gateway.wait_for_log("server app/app1 begins its slow start")
        before = load.servers.copy()
        load.wait_for(200)
        ramp = load.servers - before
        assert ramp["app1"] / ramp.total() < 0.27
        gateway.wait_for_log("server app/app1 has finished its slow start", seconds=40)

        def shared() -> bool:
            before = load.servers.copy()
            load.wait_for(300)
            return (load.servers - before)["app1"] > 75

        eventually(shared, "app1 to get its third", 20.0)
