"""When a session moves to another server its client hears of it, whatever made it move; and not when it stays."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient, Response
from tests.support.raw_server import RawServer, Script, replies
from tests.support.switch_server import SwitchServer
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]

COOKIE = {"cookie": "SRV"}
LEARNED = {"cookie": "SID", "learn": True}
BUSY = (0.0, 503, ())
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
ASK = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.fixture
def servers() -> Iterator[list[SwitchServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(SwitchServer(name)) for name in ("app1", "app2", "app3")]


def retrying(servers: list[SwitchServer], affinity: dict[str, Any], attempts: int = 2) -> Site:
    return site(servers, affinity=affinity, retries={"on": ["connect", "reset", "503"], "attempts": attempts})


def cookie(answer: Response) -> str | None:
    """Return the cookie that an answer sets, as a client sends it."""
    line = answer.header("Set-Cookie")
    return line.partition(";")[0] if line else None


def begin(client: RawClient, servers: list[SwitchServer]) -> tuple[SwitchServer, str]:
    """Begin a session: its server and its cookie. With `learn` the servers have to set it."""
    answer = client.get("/shop")
    pair = cookie(answer)
    assert pair
    for server in servers:
        server.work = (0.0, 200, ())
    return next(server for server in servers if server.name.encode() == answer.body), pair


def setting(servers: list[SwitchServer], affinity: dict[str, Any]) -> None:
    """Let the servers set the cookie, where they do."""
    for server in servers:
        server.work = (0.0, 200, (("Set-Cookie", "SID=abc; Path=/shop"),) if "learn" in affinity else ())


def closes(connection: socket.socket, _: bytes) -> None:
    """Take the request and give no answer."""
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("affinity", [COOKIE, LEARNED], ids=["signed", "learned"])
def test_a_status_that_is_tried_elsewhere_moves_the_session(
    lend_gateway: Starter, servers: list[SwitchServer], affinity: dict[str, Any]
) -> None:
    setting(servers, affinity)
    gateway = lend_gateway(retrying(servers, affinity))
    with RawClient(gateway.port) as client:
        home, pair = begin(client, servers)
        assert cookie(client.get("/shop", f"Cookie: {pair}")) is None
        home.work = BUSY
        moved = client.get("/shop", f"Cookie: {pair}")
        new = cookie(moved)
        assert moved.status == 200
        assert moved.body != home.name.encode()
        assert new not in (None, pair)
        if "learn" in affinity:
            assert new.endswith("~abc")
            assert (moved.header("Set-Cookie") or "").endswith("; Path=/shop")
        home.work = (0.0, 200, ())
        for _ in range(3):
            again = client.get("/shop", f"Cookie: {new}")
            assert (again.body, cookie(again)) == (moved.body, None)


@pytest.mark.parametrize("affinity", [COOKIE, LEARNED], ids=["signed", "learned"])
def test_a_server_that_gives_no_answer_loses_the_session(lend_gateway: Starter, affinity: dict[str, Any]) -> None:
    fields = b"Set-Cookie: SID=abc; Path=/shop\r\n" if "learn" in affinity else b""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n%s\r\n"
    with RawServer(replies(answer % fields + b"1")) as one, RawServer(replies(answer % b"" + b"2")) as two:
        backend = {"servers": [one.address, two.address], "affinity": affinity, "balance": "round-robin"}
        gateway = lend_gateway({**site([]), "backends": {"app": backend}})
        with RawClient(gateway.port) as client:
            first = client.get()
            assert first.body == b"1"
            pair = cookie(first)
            assert pair
            one.script = closes
            moved = client.get("/", f"Cookie: {pair}")
            assert moved.body == b"2"
            new = cookie(moved)
            assert new not in (None, pair)
            one.script = replies(answer % b"" + b"1")
            again = client.get("/", f"Cookie: {new}")
            assert (again.body, cookie(again)) == (b"2", None)


@pytest.mark.parametrize("affinity", [COOKIE, LEARNED], ids=["signed", "learned"])
def test_a_session_does_not_move_for_an_answer_that_is_no_better(
    lend_gateway: Starter, servers: list[SwitchServer], affinity: dict[str, Any]
) -> None:
    setting(servers, affinity)
    gateway = lend_gateway(retrying(servers, affinity))
    with RawClient(gateway.port) as client:
        home, pair = begin(client, servers)
        for server in servers:
            server.work = BUSY
        refused = client.get("/shop", f"Cookie: {pair}")
        assert (refused.status, cookie(refused)) == (503, None)
        assert {server.counts["/shop"] > 0 for server in servers} == {True}
        for server in servers:
            server.work = (0.0, 200, ())
        again = client.get("/shop", f"Cookie: {pair}")
        assert (again.body, cookie(again)) == (home.name.encode(), None)


def test_a_server_named_by_the_url_sets_no_cookie(lend_gateway: Starter, servers: list[SwitchServer]) -> None:
    """The application writes its links: only it can name another."""
    gateway = lend_gateway(retrying(servers, {"url": "at"}))
    servers[0].work = BUSY
    with RawClient(gateway.port) as client:
        moved = client.get("/shop?at=app1")
        assert (moved.status, moved.header("Set-Cookie")) == (200, None)
        assert moved.body in (b"app2", b"app3")


def test_a_protocol_that_is_switched_to_takes_the_session_along(lend_gateway: Starter) -> None:
    with RawServer(replies(AGREED, keep=True)) as one, RawServer(replies(AGREED, keep=True)) as two:
        backend = {"servers": [one.address, two.address], "affinity": COOKIE, "balance": "round-robin"}
        gateway = lend_gateway({**site([]), "backends": {"app": backend}})

        def upgrade(*fields: str) -> Response:
            with RawClient(gateway.port) as client:
                return client.ask("\r\n".join((ASK + "Sec: 1", *fields, "", "")).encode())

        first = upgrade()
        pair = cookie(first)
        assert first.status == 101
        assert pair
        assert cookie(upgrade(f"Cookie: {pair}")) is None
        before = len(two.heads)
        one.__exit__(None, None, None)
        moved = cookie(upgrade(f"Cookie: {pair}"))
        assert moved not in (None, pair)
        assert len(two.heads) == before + 1


class Gate:
    """A script that answers with `body` once it is opened."""

    def __init__(self, body: bytes) -> None:
        self.opened = threading.Event()
        self.body = body

    def script(self) -> Script:
        def script(connection: socket.socket, _: bytes) -> None:
            assert self.opened.wait(20)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(self.body), self.body))

        return script


def test_a_session_that_has_waited_for_its_server_stays(lend_gateway: Starter) -> None:
    """Through a reload with the servers in another order, too."""
    one, two = Gate(b"1"), Gate(b"2")
    for gate in (one, two):
        gate.opened.set()
    with RawServer(one.script()) as first, RawServer(two.script()) as second:
        rows = [
            {"name": f"app{i}", "address": server.address, "max_connections": 1}
            for i, server in enumerate((first, second), 1)
        ]
        backend = {"servers": rows, "affinity": COOKIE, "balance": "round-robin", "queue": {"timeout": "15s"}}
        gateway = lend_gateway({**site([]), "backends": {"app": backend}})
        with ExitStack() as stack:
            clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(4)]
            pairs = {(answer := clients[0].get()).body: cookie(answer) for _ in range(2)}
            assert set(pairs) == {b"1", b"2"}
            for gate in (one, two):
                gate.opened.clear()
            came = len(first.heads), len(second.heads)
            for client, body in zip(clients, (b"1", b"2", b"2", b"2"), strict=True):
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: %s\r\n\r\n" % (pairs[body] or "").encode())
                if client is clients[1]:
                    eventually(lambda: (len(first.heads), len(second.heads)) == (came[0] + 1, came[1] + 1), "both busy")
            gateway.reload({**gateway.site, "backends": {"app": {**backend, "servers": rows[::-1]}}})
            two.opened.set()
            for client in clients[1:]:
                answer = client.response()
                assert (answer.body, cookie(answer)) == (b"2", None)
            one.opened.set()
            assert clients[0].response().body == b"1"
