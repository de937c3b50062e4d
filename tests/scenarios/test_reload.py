"""SIGHUP under load: whatever changes in the site file, no request is lost and no connection is cut."""

import copy
import json
import os
import re
import select
import signal
from contextlib import ExitStack
from functools import partial

import pytest

from tests.support.connections import client_on, clients_of, sockets_on
from tests.support.gateway_process import site
from tests.support.load import Load
from tests.support.raw import RawClient
from tests.support.waiting import answers, eventually, free_port

CHECK = {"http": "/check", "interval": "200ms", "timeout": "5s", "rise": 2, "fall": 2}


def reload(gateway, description):
    """Reload, and wait until every process that stays or comes works by the new version."""
    since = len(gateway.log)
    said = gateway.reload(description, "(reloaded: |reload refused)")
    assert "reloaded: " in said, gateway.log
    works = re.compile(r"(control|worker \d+) uses load (\d+) ")
    processes = description["workers"] + 1

    def everywhere():
        seen = {(int(load), name) for name, load in works.findall(gateway.log, since)}
        return len([load for load, _ in seen if load == max(seen)[0]]) == processes

    eventually(everywhere, "the new version everywhere")


def has_workers(gateway, count):
    return len(gateway.workers()) == count


def test_servers_and_routes_change_under_load(start_servers, start_gateway):
    servers = start_servers("app1", "app2", "app3")
    description = site(servers[:2], workers=2, check=CHECK)
    gateway = start_gateway(description)
    with Load(gateway.port, clients=12) as load, RawClient(gateway.port) as slow:
        load.wait_for(200)
        assert set(load.servers) == {"app1", "app2"}

        grown = copy.deepcopy(description)
        grown["backends"]["app"]["servers"].append({"name": "app3", "address": servers[2].address})
        reload(gateway, grown)
        eventually(lambda: load.servers["app3"] >= 50, "the new server to be used")

        # In flight on servers that are about to go.
        slow.send(b"GET /drip/10/0.1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert slow.read(until=b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        only_third = copy.deepcopy(description)
        only_third["backends"]["app"]["servers"] = [{"name": "app3", "address": servers[2].address}]
        reload(gateway, only_third)
        load.wait_for(24)
        gone = load.servers["app1"], load.servers["app2"]
        load.wait_for(200)
        assert (load.servers["app1"], load.servers["app2"]) == gone
        assert slow.read(until=b"j") == b"abcdefghij"

        routed = copy.deepcopy(only_third)
        routed["backends"]["first"] = {"servers": [{"name": "app1", "address": servers[0].address}]}
        routed["routes"] = [
            {"match": {"path": "/hello/"}, "respond": {"status": 200, "body": "hello"}},
            {"match": {"host": "localhost"}, "backend": "first"},
            {"backend": "app"},
        ]
        reload(gateway, routed)
        load.wait_for(24)
        third = load.servers["app3"]
        load.wait_for(200)
        assert load.servers["app3"] == third
        # The connection that was open all the time follows the new routes, too.
        assert slow.get("/hello/").body == b"hello"
        assert slow.get(host="other.example.com").header("X-Server") == "app3"

        reload(gateway, description)
        eventually(lambda: load.servers["app2"] > gone[1] + 50, "the old servers to be back")
    assert load.failures == []


def test_listener_comes_and_goes_under_load(start_servers, start_gateway):
    description = site(start_servers("app1"), workers=2)
    both = copy.deepcopy(description)
    both["frontends"].append({"name": "more", "listen": f"127.0.0.1:{free_port()}"})
    gateway = start_gateway(description)
    with Load(gateway.port, clients=8) as load:
        load.wait_for(100)
        reload(gateway, both)
        port = int(both["frontends"][1]["listen"].rpartition(":")[2])
        with Load(port, clients=8) as more:
            more.wait_for(100)
            reload(gateway, description)
            # Nobody new gets in, but who is in stays in.
            eventually(lambda: not answers("127.0.0.1", port), "the listener to be gone")
            more.wait_for(200)
        load.wait_for(100)
        reload(gateway, both)
        with RawClient(port) as client:
            assert client.get().status == 200
    assert load.failures == []
    assert more.failures == []


def test_workers_come_and_go_under_load(start_servers, start_gateway):
    servers = start_servers("app1", "app2", "app3")
    description = site(servers, workers=1, balance="least-connections")
    gateway = start_gateway(description)
    with ExitStack() as stack:
        loads = []
        for count in (3, 1, 3, 2, 1):
            before = gateway.workers()
            reload(gateway, description | {"workers": count})
            eventually(partial(has_workers, gateway, count), f"{count} workers")
            after = gateway.workers()
            assert len(after.items() & before.items()) == min(len(before), len(after))
            # New connections every time: the kernel spreads them over the workers there are.
            loads.append(stack.enter_context(Load(gateway.port, clients=12)))
            loads[-1].wait_for(100)
    assert [load.failures for load in loads] == [[]] * 5


def test_clients_that_come_while_workers_go_are_served(start_servers, start_gateway):
    """A new connection for every request: one of them always waits in the socket that a worker leaves."""
    description = site(start_servers("app1", "app2"), workers=2)
    gateway = start_gateway(description)
    most = 2
    with Load(gateway.port, clients=16, fields=("Connection: close",)) as load:
        for count in (1, 2, 3, 1) * 4:
            reload(gateway, description | {"workers": count})
            most = max(most, count)
            assert sockets_on(gateway.port) == most
            load.wait_for(50)
        eventually(partial(has_workers, gateway, 1), "one worker")
        load.wait_for(50)
    assert load.failures == []


def test_clients_in_the_queue_of_a_leaving_worker_are_served_by_the_others(start_servers, start_gateway):
    description = site(start_servers("app1"), workers=3)
    gateway = start_gateway(description)
    leaving = gateway.workers()[2]
    os.kill(leaving, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(48)]
            for client in clients:
                client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            reload(gateway, description | {"workers": 2})
            assert [client.response().status for client in clients] == [200] * 48
    finally:
        os.kill(leaving, signal.SIGCONT)
    gateway.wait_for_log(rf"worker 2 \(pid {leaving}\) ended with status 0")


def test_successor_of_a_killed_worker_inherits_what_it_took_over(start_servers, start_gateway):
    description = site(start_servers("app1"), workers=3)
    gateway = start_gateway(description)
    reload(gateway, description | {"workers": 1})
    eventually(partial(has_workers, gateway, 1), "one worker")
    old = gateway.kill_worker(0)
    eventually(lambda: gateway.workers().get(0, old) != old, "the new worker")
    assert sockets_on(gateway.port) == 3
    for _ in range(48):
        with RawClient(gateway.port) as client:
            assert client.get().status == 200
    # And it gives up what another one gets: more than one each would stay unanswered.
    reload(gateway, description)
    assert sockets_on(gateway.port) == 3
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(48)]
        assert [client.get().status for client in clients] == [200] * 48
        assert all(clients_of(pid, gateway.port) for pid in gateway.workers().values())


def test_address_goes_with_all_its_sockets(start_servers, start_gateway):
    description = site(start_servers("app1"), workers=3)
    port = free_port()
    both = copy.deepcopy(description)
    both["frontends"].append({"name": "more", "listen": f"127.0.0.1:{port}"})
    gateway = start_gateway(both)
    reload(gateway, both | {"workers": 1})
    reload(gateway, description | {"workers": 2})
    eventually(lambda: sockets_on(port) == 0, "the address to be gone")
    assert sockets_on(gateway.port) == 3
    reload(gateway, both | {"workers": 2})
    assert sockets_on(port) == 2
    with RawClient(port) as client:
        assert client.get().status == 200


def test_requests_of_a_leaving_worker_count_until_they_end(start_servers, start_gateway, tmp_path):
    """A worker that goes and a worker that comes at the same time must not disturb each other's counts."""
    servers = start_servers("app1", "app2", "app3")
    description = site(servers, workers=2, balance="least-connections") | {"drain": "40s"}
    for server in description["backends"]["app"]["servers"]:
        server["max_connections"] = 4
    gateway = start_gateway(description)
    with ExitStack() as stack:
        leaving = [stack.enter_context(client_on(gateway, 1)) for _ in range(6)]
        for client in leaving:
            client.send(b"GET /when/first HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: [server.count for server in servers] == [2, 2, 2], "two on each server")
        reload(gateway, description | {"workers": 1})
        reload(gateway, description)

        def asked():
            return sum(server.count for server in servers)

        def free_places(until):
            """Ask one by one until every server is full; they are held until there is a file of that name."""
            with ExitStack() as asking:
                clients = [asking.enter_context(RawClient(gateway.port)) for _ in range(15)]
                for client in clients:
                    before = asked()
                    client.send(f"GET /when/{until} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    eventually(
                        lambda: asked() > before or bool(select.select([client.socket], [], [], 0)[0]),  # noqa: B023
                        "a place or a refusal",
                    )
                (tmp_path / until).touch()
                return [client.response().status for client in clients].count(200)

        assert free_places("second") == 6
        (tmp_path / "first").touch()
        assert [client.response().status for client in leaving] == [200] * 6
        gateway.wait_for_log(r"worker 1 \(pid \d+\) ended with status 0")
        assert free_places("third") == 12


def test_requests_in_a_leaving_worker_may_outlast_the_drain_time(start_servers, start_gateway):
    description = site(start_servers("app1"), workers=2) | {"drain": "500ms"}
    gateway = start_gateway(description)
    with client_on(gateway, 1) as slow:
        slow.send(b"GET /drip/20/0.1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert slow.read(until=b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        reload(gateway, description | {"workers": 1})
        assert len(slow.read()) == 20
    gateway.wait_for_log(r"worker 1 \(pid \d+\) ended with status 0")
    assert "ERROR" not in gateway.log


def test_access_log_changes_under_load(start_servers, start_gateway, tmp_path):
    files = [tmp_path / "one.log", tmp_path / "two.log"]
    description = site(start_servers("app1", "app2"), workers=2)
    gateway = start_gateway(description | {"access_log": {"path": str(files[0]), "format": "json"}})
    steps = [
        {"path": str(files[0]), "format": "combined"},
        {"path": str(files[0]), "format": "{status} {uri} of {host}"},
        {"path": str(files[1]), "format": "{status} {uri} of {host}"},
        {"path": str(files[1]), "format": "json"},
    ]
    with Load(gateway.port, clients=12) as load:
        for step in steps:
            load.wait_for(100)
            reload(gateway, description | {"access_log": step})
        load.wait_for(100)
    assert load.failures == []
    assert gateway.terminate() == 0

    def kind(line):
        if line.startswith("{"):
            assert json.loads(line)["status"] == 200
            return "json"
        return "template" if line == "200 / of localhost" else "combined"

    kinds = [[kind(line) for line in file.read_text().splitlines()] for file in files]
    assert {*kinds[0]} == {"json", "combined", "template"}
    assert {*kinds[1]} == {"json", "template"}
    assert len(kinds[0]) + len(kinds[1]) == load.good


@pytest.mark.parametrize(
    "change, place",
    [
        pytest.param(("balance: round-robin", "balance: round-robbin"), "did you mean", id="value"),
        pytest.param(("routes:", "routs:"), "did you mean", id="key"),
        pytest.param(("routes:", "routes: ["), "", id="yaml"),
    ],
)
def test_a_refused_reload_names_the_mistake_and_changes_nothing(start_servers, start_gateway, change, place):
    gateway = start_gateway(site(start_servers("app1"), workers=2))
    good = gateway.path.read_text()
    processes = gateway.workers(), gateway.control()
    with Load(gateway.port, clients=8) as load:
        load.wait_for(100)
        since = len(gateway.log)
        gateway.reload(good.replace(*change), "reload refused; keeping version 1")
        gateway.wait_for_log(rf"site\.yaml:\d+:\d+: .*{place}", since)
        load.wait_for(100)
        assert (gateway.workers(), gateway.control()) == processes
        assert "reloaded: " in gateway.reload(good, "reloaded")
        load.wait_for(100)
    assert load.failures == []


def test_reload_that_cannot_listen_changes_nothing(start_servers, start_gateway):
    (server,) = start_servers("app1")
    description = site([server], workers=2)
    gateway = start_gateway(description)
    taken = copy.deepcopy(description)
    taken["frontends"].append({"name": "more", "listen": [f"127.0.0.1:{free_port()}", server.address]})
    with Load(gateway.port, clients=8) as load:
        load.wait_for(100)
        gateway.reload(taken, f"cannot listen on {server.address}: another program is using it")
        load.wait_for(100)
        reload(gateway, description)
    assert load.failures == []


def test_new_certificate_is_for_new_connections(start_servers, start_gateway, authority):
    description = site(start_servers("app1"))
    first, second = authority.issue("localhost"), authority.issue("localhost")
    description["frontends"][0]["tls"] = {"certificates": [first.as_site()]}
    gateway = start_gateway(description)
    context = authority.client_context()

    def serial(client):
        return client.socket.getpeercert()["serialNumber"]

    with RawClient(gateway.port, context) as old:
        assert old.get().status == 200
        first.cert.write_bytes(second.cert.read_bytes())
        first.key.write_bytes(second.key.read_bytes())
        reload(gateway, description)
        with RawClient(gateway.port, context) as new:
            assert new.get().status == 200
            assert serial(new) != serial(old)
        assert old.get().status == 200
