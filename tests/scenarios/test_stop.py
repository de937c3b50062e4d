"""SIGTERM lets what runs finish, but not for ever; nothing survives the supervisor."""

import os
import signal
import time

import psutil
import pytest

from tests.support.connections import client_on
from tests.support.gateway_process import site
from tests.support.load import Load
from tests.support.raw import RawClient
from tests.support.waiting import answers, eventually

SLOW = b"GET /delay/1.5 HTTP/1.1\r\nHost: localhost\r\n\r\n"
HANG = b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n"


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
    eventually(lambda: not answers("127.0.0.1", port), "new connections to be refused", 5.0)


def test_what_runs_is_finished_and_nobody_new_gets_in(server, start_gateway):
    gateway = start_gateway(site([server], workers=2) | {"drain": "10s"})
    children = tree(gateway)[1:]
    with (
        client_on(gateway, 0) as slow,
        client_on(gateway, 1) as talking,
        client_on(gateway, 1) as sending,
        client_on(gateway, 1) as silent,
    ):
        assert silent.get().header("Connection") is None
        sending.send(b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
        slow.send(SLOW)
        eventually(lambda: server.count == 3, "all to be in flight")
        began = time.monotonic()
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
        slow_one = slow.response()
        assert (slow_one.status, slow_one.header("Connection")) == (200, "close")
        assert slow.is_closed()
        assert gateway.wait() == 0
        assert 1.0 < time.monotonic() - began < 4.0
    assert not any(runs(pid) for pid in children)
    assert "ERROR" not in gateway.log


def test_stop_without_clients_is_quick(server, start_gateway):
    gateway = start_gateway(site([server], workers=2) | {"drain": "30s"})
    with RawClient(gateway.port) as client:
        assert client.get().status == 200  # leaves an idle connection to the server
    began = time.monotonic()
    assert gateway.terminate() == 0
    assert time.monotonic() - began < 5.0


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
        assert 1.0 <= time.monotonic() - began < 3.0
        assert hanging.read() == b""
    assert "1 connections were still busy after 1s and are cut" in gateway.log


def test_second_signal_stops_at_once(server, start_gateway):
    gateway = start_gateway(site([server], workers=2) | {"drain": "30s"})
    children = tree(gateway)[1:]
    with RawClient(gateway.port) as hanging:
        hanging.send(HANG)
        eventually(lambda: server.count == 1, "it to hang")
        gateway.process.terminate()
        gateway.wait_for_log("stopping: running requests have 30s")
        began = time.monotonic()
        gateway.terminate(10.0)
        assert time.monotonic() - began < 5.0
        assert hanging.is_closed()
    assert not any(runs(pid) for pid in children)


def test_children_of_a_killed_supervisor_finish_and_end(server, start_gateway):
    gateway = start_gateway(site([server], workers=2) | {"drain": "10s"})
    children = tree(gateway)[1:]
    assert all(runs(pid) for pid in children)
    with RawClient(gateway.port) as slow:
        slow.send(SLOW)
        eventually(lambda: server.count == 1, "it to be in flight")
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.wait()
        refuses(gateway.port)
        assert slow.response().status == 200
    eventually(lambda: not any(runs(pid) for pid in children), "the orphans to end", 3.0)
