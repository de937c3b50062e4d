"""Servers say their load with their answers: the gateway goes by it, and clients see nothing of it."""

from collections.abc import Callable
from contextlib import ExitStack

from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.load import Load
from tests.support.raw import RawClient
from tests.support.switch_server import SwitchServer
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
BUSY = ("Endpoint-Load-Metrics", "TEXT cpu_utilization=0.9, mem_utilization=0.1")
IDLE = ("endpoint-load-metrics", 'JSON {"application_utilization": 0.1, "cpu_utilization": 0.9}')


def test_traffic_follows_the_load_in_responses(lend_gateway: Starter) -> None:
    with ExitStack() as stack:
        busy, idle = (stack.enter_context(SwitchServer(name)) for name in ("busy", "idle"))
        busy.work, idle.work = (0.04, 200, (BUSY,)), (0.04, 200, (IDLE,))
        gateway = lend_gateway(site([busy, idle], workers=2, balance="measured", agent={"orca": True}))
        with RawClient(gateway.port) as client:
            for _ in range(4):
                names = {name.lower() for name, _ in client.get("/work").fields}
                assert "x-server" in names
                assert not any(name.startswith("endpoint-load") for name in names)
        load = stack.enter_context(Load(gateway.port, "/work", clients=8))

        def follows() -> bool:
            before = load.servers.copy()
            load.wait_for(200)
            window = load.servers - before
            return window["idle"] > 1.5 * window["busy"]

        eventually(follows, "traffic to go to the idle server", 30.0)


def test_rules_see_the_load_and_the_binary_form_is_taken_out(lend_gateway: Starter) -> None:
    with SwitchServer("app1") as server:
        server.work = (0.0, 200, (("endpoint-load-metrics-bin", "CTMzMzMzM+s/"), ("Endpoint-Load-Metricsx", "stays")))
        gateway = lend_gateway(site([server], agent={"orca": True, "stale_after": "60s"}))
        gateway.write(
            {
                **gateway.site,
                "routes": [
                    {"match": {"path": "/full", "when": 'load("app") > 0.8'}, "respond": {"status": 418}},
                    {"backend": "app"},
                ],
            }
        )
        gateway.reload()
        with RawClient(gateway.port) as client:
            answer = client.get("/work")
            assert (answer.header("endpoint-load-metrics-bin"), answer.header("endpoint-load-metricsx")) == (
                None,
                "stays",
            )
            eventually(lambda: client.get("/full").status == 418, "the load of 0.85 to be known")


def test_without_orca_nothing_is_read_or_taken_out(lend_gateway: Starter) -> None:
    with SwitchServer("app1") as server:
        server.work = (0.0, 200, (BUSY,))
        with RawClient(lend_gateway(site([server])).port) as client:
            assert client.get("/work").header(BUSY[0]) == BUSY[1]
