"""Waiting while every server is at its limit."""

import select
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.kernel import send_and_wait
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def queueing(server: BackendServer, workers: int = 1, limit: int = 100, timeout: str = "10s", **backend: Any) -> Site:
    """A site with one server that takes one request at a time."""
    servers = [{"name": server.name, "address": server.address, "max_connections": 1}]
    queue = {"limit": limit, "timeout": timeout}
    return {**site([], workers), "backends": {"app": {"servers": servers, "queue": queue, **backend}}}


def test_requests_wait_for_room_over_all_workers(lend_gateway: Starter, start_servers: Servers) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(queueing(server, workers=2))
    statuses: list[int] = []

    def ask() -> None:
        with RawClient(gateway.port) as client:
            statuses.extend(client.get("/delay/0.02").status for _ in range(3))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == [200] * 24


def test_who_waits_longest_is_next(lend_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(queueing(server))
    clients = [RawClient(gateway.port) for _ in range(6)]
    try:
        for i, client in enumerate(clients):  # the order of arrival is what this is about
            send_and_wait(client.socket, b"GET /when/go?%d HTTP/1.1\r\nHost: a\r\n\r\n" % i)
        (tmp_path / "go").touch()
        assert [client.response().status for client in clients] == [200] * 6
    finally:
        for client in clients:
            client.close()
    heads = [bytes(request.head).split(b" ")[1] for request in server.requests()]
    assert heads == [b"/when/go?%d" % i for i in range(6)]


def test_the_queue_has_an_end_in_length_and_in_time(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(queueing(server, limit=1, timeout="2s"))
    with RawClient(gateway.port) as first, RawClient(gateway.port) as second, RawClient(gateway.port) as third:
        first.send(b"GET /when/go HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: server.count == 1, "the first to arrive")
        began = time.monotonic()
        send_and_wait(second.socket, b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert third.get("/who").status == 503
        assert not select.select([second.socket], [], [], 0)[0], "the third was refused because the second waits"
        assert second.response().status == 503
        assert time.monotonic() - began > 1.8
        (tmp_path / "go").touch()
        assert first.response().status == 200
        with RawClient(gateway.port) as fourth:
            assert fourth.get("/who").body == b"app1"


def test_the_end_of_the_queue_is_that_of_all_workers_together(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(queueing(server, workers=2, limit=3))
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(13)]
        clients[0].send(b"GET /when/go HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: server.count == 1, "the first to arrive")
        for client in clients[1:]:
            send_and_wait(client.socket, b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")
        sockets = [client.socket for client in clients]
        eventually(lambda: len(select.select(sockets, [], [], 0)[0]) == 9, "all but the first and three to be refused")
        (tmp_path / "go").touch()
        statuses = [client.response().status for client in clients]
    assert sorted(statuses) == [200] * 4 + [503] * 9


def test_a_client_that_leaves_gives_up_its_place(lend_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(queueing(server))
    with RawClient(gateway.port) as first:
        first.send(b"GET /when/go HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: server.count == 1, "the first to arrive")
        with RawClient(gateway.port) as gone, RawClient(gateway.port) as second:
            send_and_wait(gone.socket, b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n")  # it is in the queue when it leaves
            gone.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
            gone.close()
            send_and_wait(second.socket, b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")  # read after the reset
            (tmp_path / "go").touch()
            assert second.response().body == b"app1"
        assert first.response().status == 200
    assert server.count == 2


def test_a_reload_loses_no_waiting_request(lend_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    servers = start_servers("app1", "app2")
    gateway = lend_gateway(queueing(servers[0]))
    with RawClient(gateway.port) as first, RawClient(gateway.port) as second:
        first.send(b"GET /when/go HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: servers[0].count == 1, "the first to arrive")
        # It is in the queue before the reload.
        send_and_wait(second.socket, b"POST /who HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        moved = queueing(servers[1])
        gateway.reload({**moved, "frontends": gateway.site["frontends"]})
        assert second.response().body == b"app2"  # though the first goes on
        (tmp_path / "go").touch()
        assert first.response().body == b"app1"
