"""Servers that the name service names come and go with its records, and no request is lost."""

import copy
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.gateway_process import site
from tests.support.load import Load
from tests.support.name_server import ECHOES, FORGES, LOOPS, REFUSES, SILENT, TRUNCATES, NameServer
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

SERVICE = "_http._tcp.app.internal"
CHECK = {"http": "/check", "interval": "200ms", "timeout": "5s", "rise": 2, "fall": 2}


@pytest.fixture
def names():
    with NameServer() as server:
        yield server


class Places:
    """The same server on one port of several loopback addresses, as a name with several addresses needs it."""

    def __init__(self, stack, *addresses):
        self.port = free_port()
        for address in addresses:
            server = ThreadingHTTPServer((address, self.port), self._handler(address))
            server.daemon_threads = True
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    @staticmethod
    def _handler(address):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send_response(200)
                self.send_header("X-Server", address)
                self.send_header("X-Host", self.headers["Host"])
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def places():
    with ExitStack() as stack:
        yield Places(stack, "127.0.0.1", "127.0.0.2", "127.0.0.3")


def named(names, entry, workers=2, **backend):
    """A site whose only entry for servers is `entry`."""
    description = site([], workers=workers, **backend)
    description["backends"]["app"]["servers"] = [entry]
    return description | {"resolver": names.resolver}


def lead_to(names, servers):
    """Make the service consist of `servers`."""
    names.records["one.internal", "A"] = ["127.0.0.1"]
    names.records[SERVICE, "SRV"] = [f"0 0 {server.port} one.internal." for server in servers]


def answered(gateway, count=12):
    with RawClient(gateway.port) as client:
        return {client.get().header("X-Server") for _ in range(count)}


def only(load, *servers):
    """Wait until the next requests are answered by all of these and no other."""

    def holds():
        before = load.servers.copy()
        load.wait_for(60)
        return {name for name, count in load.servers.items() if count > before[name]} == set(servers)

    eventually(holds, f"only {servers} to answer")


def test_addresses_come_and_go_under_load(names, places, start_gateway):
    names.records["app.internal", "A"] = ["127.0.0.1", "127.0.0.2"]
    gateway = start_gateway(named(names, f"dns:app.internal:{places.port}"))
    # All are there with the first request: the names are asked before.
    assert answered(gateway) == {"127.0.0.1", "127.0.0.2"}
    with Load(gateway.port, clients=12) as load:
        load.wait_for(100)
        names.records["app.internal", "A"] = ["127.0.0.2", "127.0.0.3"]
        only(load, "127.0.0.2", "127.0.0.3")
        names.records["app.internal", "A"] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        only(load, "127.0.0.1", "127.0.0.2", "127.0.0.3")
        names.records["app.internal", "A"] = ["127.0.0.1"]
        only(load, "127.0.0.1")
    assert load.failures == []
    assert "servers found by name: app/app.internal-127.0.0.3\n" in gateway.log
    assert "servers gone by name: app/app.internal-127.0.0.1\n" in gateway.log
    assert "ERROR" not in gateway.log
    # The site file is the same all the time.
    assert "version 2" not in gateway.log


def test_services_are_checked_and_come_and_go_under_load(names, start_servers, lend_gateway):
    servers = start_servers("app1", "app2", "app3")
    lead_to(names, servers[:2])
    gateway = lend_gateway(named(names, {"name": "pool", "address": f"dns:{SERVICE}"}, check=CHECK))
    gateway.wait_for_log(f"server app/pool-127.0.0.1:{servers[0].port} is UP")
    with Load(gateway.port, clients=12) as load:
        only(load, "app1", "app2")
        with RawClient(gateway.port) as slow:
            slow.send(b"GET /drip/10/0.2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert slow.read(until=b"\r\n\r\n").startswith(b"HTTP/1.1 200")
            lead_to(names, servers[2:])
            only(load, "app3")
            # What runs on a server that is gone finishes there.
            assert slow.read(until=b"j") == b"abcdefghij"
        gateway.wait_for_log(f"server app/pool-127.0.0.1:{servers[2].port} is UP")
        lead_to(names, servers)
        only(load, "app1", "app2", "app3")
        since = len(gateway.log)
        servers[0].kill()
        gateway.wait_for_log(f"server app/pool-127.0.0.1:{servers[0].port} is DOWN", since)
    assert load.failures == []


def test_a_name_service_that_fails_changes_nothing(names, places, start_gateway):
    names.records["app.internal", "A"] = ["127.0.0.1", "127.0.0.2"]
    gateway = start_gateway(named(names, f"dns:app.internal:{places.port}"))
    with Load(gateway.port, clients=8) as load:
        for mood in (SILENT, REFUSES):
            names.mood = mood
            since = len(gateway.log)
            gateway.wait_for_log("A of app.internal: .*; keeping the previous servers", since)
            only(load, "127.0.0.1", "127.0.0.2")
            # Neither a control process that knows nothing yet nor a reload forgets them.
            gateway.kill_control()
            gateway.wait_for_log("control uses load", since)
            assert "reloaded" in gateway.reload(says="reload(ed| refused)")
            only(load, "127.0.0.1", "127.0.0.2")
            names.mood = ""
            names.records["app.internal", "A"] = ["127.0.0.3"]
            only(load, "127.0.0.3")
            names.records["app.internal", "A"] = ["127.0.0.1", "127.0.0.2"]
            only(load, "127.0.0.1", "127.0.0.2")
    assert load.failures == []


@pytest.mark.parametrize("mood", [LOOPS, FORGES, TRUNCATES, ECHOES])
def test_fault_30_hostile_answers_change_nothing(names, places, lend_gateway, mood):
    names.records["app.internal", "A"] = ["127.0.0.1"]
    gateway = lend_gateway(named(names, f"dns:app.internal:{places.port}"))
    assert answered(gateway) == {"127.0.0.1"}
    names.records["app.internal", "A"] = ["127.0.0.2"]
    names.mood = mood
    gateway.wait_for_log("A of app.internal: .*; keeping the previous servers", len(gateway.log))
    assert answered(gateway) == {"127.0.0.1"}
    names.mood = ""
    eventually(lambda: answered(gateway, 1) == {"127.0.0.2"}, "an honest answer to be believed")
    assert "ERROR" not in gateway.log
    assert "Traceback" not in gateway.log


def test_a_start_without_an_answer_is_a_start(names, places, start_gateway):
    names.mood = SILENT
    names.records["app.internal", "A"] = ["127.0.0.2"]
    gateway = start_gateway(named(names, f"dns:app.internal:{places.port}", workers=1))
    gateway.wait_for_log(f"dns:app.internal:{places.port}: the name service does not know a server of this name")
    with RawClient(gateway.port) as client:
        assert client.get().status == 503
    names.mood = ""
    gateway.wait_for_log("servers found by name: app/app.internal-127.0.0.2")
    eventually(lambda: answered(gateway, 1) == {"127.0.0.2"}, "the server to be used")


def test_a_name_without_records_loses_its_servers_in_the_end(names, places, lend_gateway):
    names.records["app.internal", "A"] = ["127.0.0.1"]
    gateway = lend_gateway(named(names, f"dns:app.internal:{places.port}", workers=1))
    asked = names.asked["app.internal", "A"]
    del names.records["app.internal", "A"]
    eventually(lambda: names.asked["app.internal", "A"] >= asked + 2, "two empty answers")
    assert answered(gateway) == {"127.0.0.1"}
    gateway.wait_for_log("servers gone by name: app/app.internal-127.0.0.1", seconds=40)

    def status():
        with RawClient(gateway.port) as client:
            return client.get().status

    eventually(lambda: status() == 503, "no server")


def test_a_reload_brings_names_and_takes_them_away_under_load(names, places, start_servers, lend_gateway):
    (server,) = start_servers("app1")
    names.records["app.internal", "A"] = ["127.0.0.2"]
    plain = site([server], workers=2) | {"resolver": names.resolver}
    with_name = copy.deepcopy(plain)
    with_name["backends"]["app"]["servers"] = [f"dns:app.internal:{places.port}"]
    gateway = lend_gateway(plain)
    with Load(gateway.port, clients=8) as load:
        for _ in range(2):
            gateway.reload(with_name, "reloaded: ")
            only(load, "127.0.0.2")
            gateway.reload(plain, "reloaded: ")
            only(load, "app1")
    assert load.failures == []


def test_a_new_worker_has_the_servers_found_by_name(names, places, start_gateway):
    names.records["app.internal", "A"] = ["127.0.0.1"]
    gateway = start_gateway(named(names, f"dns:app.internal:{places.port}", workers=1))
    names.records["app.internal", "A"] = ["127.0.0.3"]
    eventually(lambda: answered(gateway, 1) == {"127.0.0.3"}, "the new server")
    gateway.kill_worker(0)
    eventually(lambda: bool(gateway.workers()), "another worker")
    assert answered(gateway) == {"127.0.0.3"}
