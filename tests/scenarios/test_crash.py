"""kill -9 of a server, of a worker, of control, all under load: what fails is what was in flight there."""

import re
import time
from contextlib import ExitStack

from tests.support.connections import client_on, clients_of
from tests.support.gateway_process import site
from tests.support.load import Load
from tests.support.raw import RawClient
from tests.support.waiting import eventually

SOON = 10.0  # seconds: long enough for any machine, and below every timeout
CHECK = {"http": "/check", "interval": "200ms", "timeout": "5s", "rise": 2, "fall": 2}
POST = b"POST /when/go HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"


def paths(received):
    return [request.head.split(b" ", 2)[1] for request in received]


def test_server_killed_under_load_costs_no_get_and_comes_back(start_servers, start_gateway):
    servers = start_servers("app1", "app2", "app3")
    gateway = start_gateway(site(servers, check=CHECK, balance="least-connections"))
    gateway.wait_for_log("server app/app3 is UP")
    with Load(gateway.port, "/delay/0.02", clients=12) as load:
        eventually(lambda: min(load.servers[name] for name in ("app1", "app2", "app3")) > 40, "all three to be used")
        servers[0].kill()
        gateway.wait_for_log("server app/app1 is DOWN: TCP_CONNECT_REFUSED after 2 failed checks")
        # What was on its way when the Board changed is answered, by others, before these are.
        load.wait_for(24)
        out_of_rotation = load.servers["app1"]
        load.wait_for(200)
        assert load.servers["app1"] == out_of_rotation

        first_life = len(servers[0].requests())
        servers[0].start()
        gateway.wait_for_log("server app/app1 is UP: OK after 2 good checks")
        eventually(lambda: load.servers["app1"] >= out_of_rotation + 50, "app1 to be used again")
    assert load.failures == []
    second_life = paths(servers[0].requests()[first_life:])
    assert second_life[:2] == [b"/check", b"/check"]
    assert b"/delay/0.02" in second_life


def test_server_killed_costs_exactly_the_posts_in_flight_on_it(start_servers, start_gateway, tmp_path):
    servers = start_servers("app1", "app2", "app3")
    gateway = start_gateway(site(servers))
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(9)]
        for client in clients:
            client.send(POST)
        eventually(lambda: [server.count for server in servers] == [3, 3, 3], "three on each server")
        servers[1].kill()
        (tmp_path / "go").touch()
        statuses = [client.response("POST").status for client in clients]
        assert sorted(statuses) == [200] * 6 + [502] * 3
        # The connections to the gateway have not suffered, and another server takes the next request.
        assert [client.get().status for client in clients] == [200] * 9
    posts = [request for server in servers for request in server.requests() if request.head.startswith(b"POST")]
    assert len(posts) == 9  # none was sent twice


def test_worker_killed_under_load_breaks_its_own_connections_only(start_servers, start_gateway):
    gateway = start_gateway(site(start_servers("app1", "app2"), workers=2))
    with client_on(gateway, 0) as undisturbed, Load(gateway.port, clients=16) as load:
        load.wait_for(200)
        eventually(
            lambda: sum(len(clients_of(pid, gateway.port)) for pid in gateway.workers().values()) == 17,
            "all to be accepted",
        )
        victims = clients_of(gateway.workers()[1], gateway.port)
        assert 0 < len(victims) < 16
        killed = time.monotonic()
        old = gateway.kill_worker(1)
        while gateway.workers().get(1, old) == old:
            assert undisturbed.get().status == 200
            assert time.monotonic() - killed < SOON, gateway.log
        load.wait_for(500)
        assert undisturbed.get().status == 200
        with client_on(gateway, 1) as served_by_the_new_one:
            assert served_by_the_new_one.get().status == 200
    # Each connection of the worker had one request in flight; no other one failed, no connection was refused.
    assert len(load.failures) == len(victims), load.failures
    assert all(failure.at - killed < SOON for failure in load.failures)
    assert len(re.findall(r"worker 1 \(pid \d+\) was killed by SIGKILL", gateway.log)) == 1


def test_requests_of_a_killed_worker_do_not_count_on(start_servers, start_gateway, tmp_path):
    servers = start_servers("app1", "app2", "app3")
    description = site(servers, workers=2, balance="least-connections")
    for server in description["backends"]["app"]["servers"]:
        server["max_connections"] = 4
    gateway = start_gateway(description)
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(client_on(gateway, 1)).send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: [server.count for server in servers] == [4, 4, 4], "every server to be full")
        other = stack.enter_context(client_on(gateway, 0))
        assert other.get().status == 503
        old = gateway.kill_worker(1)
        eventually(lambda: gateway.workers().get(1, old) != old, "the new worker", SOON)

        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(12)]
        for number, client in enumerate(clients, 1):
            client.send(b"GET /when/go HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: sum(server.count for server in servers) == 12 + number, "it to find a place")  # noqa: B023
        assert [server.count for server in servers] == [8, 8, 8]
        (tmp_path / "go").touch()
        assert [client.response().status for client in clients] == [200] * 12


def test_control_killed_under_load_is_not_noticed(start_servers, start_gateway):
    app1, app2, gone, watched = start_servers("app1", "app2", "gone", "watched")
    description = site((app1, app2, gone), workers=2, check=CHECK)
    # This one gets checks and nothing else: its count tells how far the new control has come.
    description["backends"]["quiet"] = {
        "servers": [{"name": "watched", "address": watched.address}],
        "check": CHECK,
    }
    gone.kill()
    gateway = start_gateway(description)
    gateway.wait_for_log("server app/gone is DOWN")
    for server in ("app/app1", "app/app2", "quiet/watched"):  # or the new control has news about it
        gateway.wait_for_log(f"server {server} is UP")
    with Load(gateway.port, clients=12) as load:
        load.wait_for(200)
        since, checks = len(gateway.log), watched.count
        old = gateway.kill_control()
        eventually(lambda: gateway.control() not in {None, old}, "control to come back", SOON)
        gateway.wait_for_log("control uses load 1", since)
        eventually(lambda: watched.count >= checks + 4, "checks of the new control")
        load.wait_for(200)
        workers = gateway.workers()
    assert load.failures == []
    assert set(load.servers) == {"app1", "app2"}
    assert len(workers) == 2
    assert re.findall(r"server \S+ is \S+", gateway.log[since:]) == []

    since = len(gateway.log)
    gone.start()
    gateway.wait_for_log("server app/gone is UP: OK after 2 good checks", since)
