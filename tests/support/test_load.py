from tests.support.backend_server import BackendServer
from tests.support.load import Load
from tests.support.programs import needs, wrk
from tests.support.waiting import eventually


def test_failures_of_a_killed_server_are_those_in_flight_then_refusals(tmp_path):
    with BackendServer(tmp_path, "app1") as server, Load(server.port, clients=4) as load:
        load.wait_for(50)
        assert not load.failures
        server.kill()
        eventually(lambda: len(load.failures) >= 8, "failures")
        server.start()
        load.wait_for(50)
    assert set(load.servers) == {"app1"}
    assert "ConnectionRefused" in load.failures[-1].why


def test_a_5xx_is_a_failure(tmp_path):
    with BackendServer(tmp_path, "app1") as server, Load(server.port, "/status/503", clients=1) as load:
        eventually(lambda: bool(load.failures), "failures")
    assert (load.good, load.failures[0].why) == (0, "status 503")


@needs("wrk")
def test_wrk_is_read(tmp_path):
    with BackendServer(tmp_path, "app1") as server:
        good = wrk(f"http://127.0.0.1:{server.port}/", seconds=1)
        bad = wrk(f"http://127.0.0.1:{server.port}/status/404", seconds=1)
    assert good.requests == good.requests + good.failed + good.errors > 100
    assert bad.failed == bad.requests > 100
