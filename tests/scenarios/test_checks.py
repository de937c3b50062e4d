"""Checks decide who gets requests, whatever else a server seems to be able to do."""

import copy
from contextlib import ExitStack

import pytest

from tests.support.gateway_process import site
from tests.support.load import Load
from tests.support.raw import RawClient
from tests.support.switch_server import SwitchServer

CHECK = {"http": "/check", "interval": "100ms", "timeout": "5s", "rise": 2, "fall": 2}


@pytest.fixture
def servers():
    with ExitStack() as stack:
        yield [stack.enter_context(SwitchServer(name)) for name in ("app1", "app2", "app3")]


def answered(gateway, count):
    """Return who answers the next `count` requests of one client."""
    with RawClient(gateway.port) as client:
        return {client.get("/work").header("X-Server") for _ in range(count)}


def test_status_out_of_range_takes_a_server_out_though_it_would_answer(servers, lend_gateway):
    gateway = lend_gateway(site(servers, check=CHECK | {"expect": {"status": ["200-299", 304]}}))
    gateway.wait_for_log("server app/app3 is UP")
    assert answered(gateway, 9) == {"app1", "app2", "app3"}
    servers[0].status = 304
    servers[1].status = 404
    gateway.wait_for_log(r"server app/app2 is DOWN: HTTP_STATUS after 2 failed checks \(HTTP 404")
    before = servers[1].counts["/work"]
    with Load(gateway.port, "/work", clients=8) as load:
        load.wait_for(300)
    assert load.failures == []
    assert set(load.servers) == {"app1", "app3"}
    assert servers[1].counts["/work"] == before
    servers[1].status = 204
    gateway.wait_for_log("server app/app2 is UP: OK after 2 good checks")
    assert answered(gateway, 9) == {"app1", "app2", "app3"}


def test_body_must_match(servers, lend_gateway):
    servers[2].body = "warming up"
    gateway = lend_gateway(site(servers, check=CHECK | {"expect": {"body": "~^(fine|ok [0-9]+)$"}}))
    # The very first check decides.
    gateway.wait_for_log("server app/app3 is DOWN: HTTP_BODY after 1 failed check ")
    gateway.wait_for_log("server app/app1 is UP")
    gateway.wait_for_log("server app/app2 is UP")
    assert answered(gateway, 9) == {"app1", "app2"}
    servers[2].body, servers[0].body = "ok 17", "not fine"
    gateway.wait_for_log("server app/app3 is UP")
    gateway.wait_for_log("server app/app1 is DOWN: HTTP_BODY after 2 failed checks")
    assert answered(gateway, 9) == {"app2", "app3"}


def test_one_bad_check_is_not_enough(servers, lend_gateway):
    gateway = lend_gateway(site(servers[:1], check=CHECK | {"fall": 2, "rise": 1}))
    gateway.wait_for_log("server app/app1 is UP")
    servers[0].once = [500, 200, 500]
    while servers[0].once:
        assert answered(gateway, 1) == {"app1"}
    seen = servers[0].counts["/check"]
    while servers[0].counts["/check"] < seen + 2:
        assert answered(gateway, 1) == {"app1"}
    assert "DOWN" not in gateway.log


def test_tcp_check_follows_the_port(start_servers, lend_gateway):
    servers = start_servers("app1", "app2")
    check = {"tcp": True, "interval": "100ms", "timeout": "5s", "rise": 2, "fall": 2}
    gateway = lend_gateway(site(servers, check=check))
    gateway.wait_for_log("server app/app1 is UP")
    gateway.wait_for_log("server app/app2 is UP")
    with Load(gateway.port, clients=8) as load:
        load.wait_for(100)
        servers[0].kill()
        gateway.wait_for_log("server app/app1 is DOWN: TCP_CONNECT_REFUSED after 2 failed checks")
        load.wait_for(100)
        before = load.servers["app1"]
        load.wait_for(100)
        assert load.servers["app1"] == before
        servers[0].start()
        gateway.wait_for_log("server app/app1 is UP: OK after 2 good checks")
        load.wait_for(100)
        assert load.servers["app1"] > before
    assert load.failures == []


def test_without_a_server_the_answer_is_503_with_retry_after_unless_there_is_a_backup(servers, lend_gateway):
    for server in servers:
        server.status = 500
    description = site(servers[:2], check=CHECK)
    gateway = lend_gateway(description)
    for server in servers[:2]:
        gateway.wait_for_log(f"server app/{server.name} is DOWN")
    with RawClient(gateway.port) as client:
        response = client.get()
        assert response.status == 503
        assert int(response.header("Retry-After") or 0) > 0
        assert client.get().status == 503  # on the same connection
        with_backup = copy.deepcopy(description)
        spare = {"name": "app3", "address": servers[2].address, "backup": True}
        with_backup["backends"]["app"]["servers"].append(spare)
        servers[2].status = 200
        gateway.reload(with_backup, "reloaded")
        gateway.wait_for_log("server app/app3 is UP")
        assert client.get("/work").header("X-Server") == "app3"
        servers[0].status = 200
        gateway.wait_for_log("server app/app1 is UP")
        assert {client.get("/work").header("X-Server") for _ in range(9)} == {"app1"}
    assert all(server.counts["/"] == 0 for server in servers)
