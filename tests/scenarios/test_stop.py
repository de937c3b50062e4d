"""SIGTERM lets running requests finish, within a limit; nothing survives the supervisor."""

import sys
import time

import psutil
import pytest

from tests.support.connections import client_on
from tests.support.gateway_process import GatewayProcess, site
from tests.support.load import Load
from tests.support.raw import RawClient
from tests.support.waiting import answers, eventually

SLOW = b"GET /when/go HTTP/1.1\r\nHost: localhost\r\n\r\n"
HANG = b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Patient(GatewayProcess):
    """A gateway whose draining workers leave silent clients more time: nothing here depends on how quick a test is."""

    command = (
        sys.executable,
        "-c",
        "import gateway.proxy.worker as w; w.NOTICE = 4.0; from gateway.cli import main; main()",
        "run",
    )


@pytest.fixture
def server(start_servers):
    return start_servers("app1")[0]


def tree(gateway):
    return [gateway.process.pid, gateway.control(), *gateway.workers().values()]


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def refuses(port):
    eventually(lambda: not answers("127.0.0.1", port), "new connections to be refused")


def test_running_requests_finish_and_no_new_client_is_accepted(server, tmp_path):
    with (
        Patient(tmp_path, site([server], workers=2) | {"drain": "40s"}) as gateway,
        client_on(gateway, 0) as slow,
        client_on(gateway, 1) as talking,
        client_on(gateway, 1) as sending,
        client_on(gateway, 1) as silent,
    ):
        children = tree(gateway)[1:]
        assert silent.get().header("Connection") is None
        sending.send(b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
        slow.send(SLOW)
        eventually(lambda: server.count == 3, "all to be in flight")
        gateway.process.terminate()
        refuses(gateway.port)
        # A request that crosses the signal is answered, and the client is told that it was the last one.
        last = talking.get()
        assert (last.status, last.header("Connection")) == (200, "close")
        assert talking.is_closed()
        assert silent.is_closed()
        done = sending.ask(b"world")
        assert (done.status, done.body, done.header("Connection")) == (200, b"10", "close")
        assert gateway.process.poll() is None
        (tmp_path / "go").touch()
        slow_one = slow.response()
        assert (slow_one.status, slow_one.header("Connection")) == (200, "close")
        assert slow.is_closed()
        assert gateway.wait() == 0  # much sooner than the drain would be over
        assert not any(runs(pid) for pid in children)
    assert "ERROR" not in gateway.log


def test_stop_without_clients_waits_for_nothing(server, start_gateway):
    gateway = start_gateway(site([server], workers=2) | {"drain": "40s"})
    with RawClient(gateway.port) as client:
        assert client.get().status == 200  # leaves an idle connection to the server
    assert gateway.terminate() == 0


def test_stop_under_load_loses_no_request(server, start_gateway):
    gateway = start_gateway(site([server], workers=2))
    with Load(gateway.port, clients=16) as load:
        load.wait_for(200)
        gateway.process.terminate()
        eventually(lambda: bool(load.failures), "the first client to find the door closed")
    assert gateway.wait() == 0
    # Every connection ended with an answer that said so; what failed were new ones.
    assert [failure for failure in load.failures if "Connect call failed" not in failure.why] == []


def test_what_does_not_finish_is_cut_when_the_drain_is_over(server, start_gateway):
    gateway = start_gateway(site([server], workers=2) | {"drain": "1s"})
    with RawClient(gateway.port) as hanging:
        hanging.send(HANG)
        eventually(lambda: server.count == 1, "it to hang")
        began = time.monotonic()
        assert gateway.terminate() == 0
        assert time.monotonic() - began >= 1.0
        assert hanging.read() == b""
    assert "1 connections were still busy after 1s; closing them" in gateway.log


def test_second_signal_stops_at_once(server, start_gateway):
    gateway = start_gateway(site([server], workers=2) | {"drain": "40s"})
    children = tree(gateway)[1:]
    with RawClient(gateway.port) as hanging:
        hanging.send(HANG)
        eventually(lambda: server.count == 1, "it to hang")
        gateway.process.terminate()
        gateway.wait_for_log("stopping: running requests have 40s")
        gateway.expect_death(*children)
        gateway.terminate()
        assert hanging.is_closed()
    assert not any(runs(pid) for pid in children)


def test_children_of_a_killed_supervisor_finish_and_end(server, start_gateway, tmp_path):
    gateway = start_gateway(site([server], workers=2) | {"drain": "40s"})
    children = tree(gateway)[1:]
    assert all(runs(pid) for pid in children)
    with RawClient(gateway.port) as slow:
        slow.send(SLOW)
        eventually(lambda: server.count == 1, "it to be in flight")
        gateway.kill(gateway.process.pid)
        gateway.wait()
        refuses(gateway.port)
        (tmp_path / "go").touch()
        assert slow.response().status == 200
    eventually(lambda: not any(runs(pid) for pid in children), "the orphans to end")
