"""Servers that answer badly, late or not at all."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.raw_server import RawServer, replies
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

OK = b"HTTP/1.1 200 OK\r\n"


def before(*addresses: str, **backend: object) -> dict[str, Any]:
    """A site with one backend of these addresses."""
    return {**site([]), "backends": {"app": {"balance": "round-robin", "servers": list(addresses), **backend}}}


BAD_HEADS = [
    b"garbage\r\n\r\n", b"HTTP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 99 No\r\n\r\n", OK + b"X: a\rSet-Cookie: evil=1\r\n\r\n",
    OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK + b"Content-Length: +2\r\n\r\nok", OK + b"X: a\r\n b\r\n\r\n", OK + b"X : a\r\n\r\n", OK + b"X: a\nY: b\r\n\r\n",
    OK + b"X: " + b"a" * 100_000, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 2000 + OK + b"Content-Length: 0\r\n\r\n", OK, b"HTTP/1", b"",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, RawServer]]:
    """One gateway before one server, whose script each test sets."""
    directory = tmp_path_factory.mktemp("stage")
    with RawServer(replies(b"")) as server, GatewayProcess(directory, before(server.address)) as gateway:
        yield gateway, server


@pytest.mark.parametrize("answer", BAD_HEADS, ids=[repr(head[:50]) for head in BAD_HEADS])
def test_a_malformed_head_gives_502(stage: tuple[GatewayProcess, RawServer], answer: bytes) -> None:
    gateway, server = stage
    server.script = replies(answer)
    with RawClient(gateway.port) as client:
        response = client.get()
        assert response.status == 502
        assert "evil" not in str(response.fields)
        # The client did nothing wrong: its connection goes on.
        server.script = replies(OK + b"Content-Length: 2\r\n\r\nok")
        assert client.get().body == b"ok"


BROKEN_BODIES = [
    OK + b"Content-Length: 100\r\n\r\nabc", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", OK + b"Transfer-Encoding: chunked\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
]  # fmt: skip


@pytest.mark.parametrize("answer", BROKEN_BODIES, ids=[repr(answer[17:70]) for answer in BROKEN_BODIES])
def test_a_body_that_breaks_off_never_looks_whole(stage: tuple[GatewayProcess, RawServer], answer: bytes) -> None:
    gateway, server = stage
    server.script = replies(answer)
    with RawClient(gateway.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        data = client.read()
        body = data.partition(b"\r\n\r\n")[2]
        assert b"0\r\n\r\n" not in body
        assert b"HTTP/1.1" not in body
        assert len(body) < 100
    with RawClient(gateway.port) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            list(iter(lambda: client.socket.recv(65536), b""))


def read_into(data: bytearray, client: socket.socket) -> None:
    """Append what comes until the connection ends. Raises ConnectionResetError."""
    while piece := client.recv(65536):
        data += piece


def test_the_reset_for_a_cut_answer_waits_until_the_answer_before_it_is_read(lend_gateway: Starter) -> None:
    whole = b"a" * 40_000

    def script(connection: socket.socket, head: bytes) -> None:
        if head.startswith(b"GET /whole"):
            connection.sendall(OK + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole)
        else:
            connection.sendall(OK + b"Content-Length: 100\r\n\r\nabc")

    with RawServer(script) as server, socket.socket() as client:
        gateway = lend_gateway(before(server.address))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # most waits in the gateway's kernel
        client.settimeout(10)
        client.connect(("127.0.0.1", gateway.port))
        client.sendall(b"GET /whole HTTP/1.1\r\nHost: a\r\n\r\nGET /cut HTTP/1.0\r\n\r\n")
        gateway.wait_for_log("the response is truncated")
        data = bytearray()
        with pytest.raises(ConnectionResetError):
            read_into(data, client)
    first, _, rest = bytes(data).partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200")
    assert rest.startswith(whole)
    assert rest[len(whole) :].endswith(b"\r\n\r\nabc")


POISON = [
    OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 4\r\n\r\nevil", OK + b"Content-Length: 2\r\n\r\nokevil",
    b"HTTP/1.1 204 No Content\r\n\r\nevil", b"HTTP/1.1 304 Not Modified\r\n\r\nevil",
    OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil",
]  # fmt: skip


@pytest.mark.parametrize("answer", POISON, ids=[repr(answer[:60]) for answer in POISON])
def test_bytes_after_an_answer_reach_no_client(stage: tuple[GatewayProcess, RawServer], answer: bytes) -> None:
    gateway, server = stage
    server.script = replies(answer, keep=True)
    with RawClient(gateway.port) as client:
        assert b"evil" not in client.get().body
        server.script = replies(OK + b"Content-Length: 4\r\n\r\ngood")
        assert client.get().body == b"good"


def test_a_body_after_head_reaches_no_other_client(stage: tuple[GatewayProcess, RawServer]) -> None:
    gateway, server = stage
    server.script = replies(OK + b"Content-Length: 4\r\n\r\nevil", keep=True)
    with RawClient(gateway.port) as client:
        assert client.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD").body == b""
        server.script = replies(OK + b"Content-Length: 4\r\n\r\ngood")
        assert client.get().body == b"good"


def test_nothing_a_server_does_is_an_error_in_the_log(stage: tuple[GatewayProcess, RawServer]) -> None:
    gateway, _ = stage
    assert "ERROR" not in gateway.log
    assert "Traceback" not in gateway.log


def test_a_dead_server_gives_502_and_a_slow_one_504(lend_gateway: Starter, start_servers: Servers) -> None:
    (server,) = start_servers("app1")
    description = before(server.address, timeouts={"response": "1s"})
    description["backends"]["dead"] = {"servers": [f"127.0.0.1:{free_port()}"]}
    description["routes"] = [{"match": {"path": "/dead"}, "backend": "dead"}, {"backend": "app"}]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        assert client.get("/dead").status == 502
        assert client.get("/hang").status == 504
        client.send(b"GET /drip/12/0.1 HTTP/1.1\r\nHost: a\r\n\r\n")  # slow, but going on
        assert client.response().body == b"abcdefghijkl"


def test_a_server_that_accepts_no_connection_costs_its_timeout_and_no_more(lend_gateway: Starter) -> None:
    """Its queue is full: the kernel lets further clients wait."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fill = [socket.socket() for _ in range(3)]
        for one in fill:
            one.settimeout(0)
            one.connect_ex(("127.0.0.1", port))
        gateway = lend_gateway(before(f"127.0.0.1:{port}", timeouts={"connect": "3s"}))
        with RawClient(gateway.port) as client:
            began = time.monotonic()
            assert client.get().status == 502
            assert time.monotonic() - began > 2.8  # it would be 2 s without the limit, and endless without any
        for one in fill:
            one.close()


def test_the_next_server_is_tried_when_one_refuses(lend_gateway: Starter, start_servers: Servers) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(before(f"127.0.0.1:{free_port()}", server.address))
    with RawClient(gateway.port) as client:
        assert [client.get("/who").body for _ in range(4)] == [b"app1"] * 4
        posted = client.ask(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert posted.body == b"5"
    assert server.count == 5


def test_a_request_that_may_have_been_done_is_not_done_again(lend_gateway: Starter) -> None:
    with RawServer(replies()) as one, RawServer(replies()) as other:
        gateway = lend_gateway(before(one.address, other.address))
        with RawClient(gateway.port) as client:
            assert client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").status == 502
            assert len(one.heads) + len(other.heads) == 1
            assert client.get().status == 502
            assert len(one.heads) + len(other.heads) == 3


def test_a_connection_that_idled_too_long_is_replaced(lend_gateway: Starter) -> None:
    """The server closes as the second request comes: a GET goes again, to the same server."""
    seen = 0

    def script(connection: socket.socket, _: bytes) -> None:
        nonlocal seen
        seen += 1
        connection.sendall(OK + b"Content-Length: 1\r\n\r\n%d" % seen)
        connection.recv(65536)  # the next request, answered by closing

    with RawServer(script) as server:
        gateway = lend_gateway(before(server.address))
        with RawClient(gateway.port) as client:
            assert [client.get().body for _ in range(3)] == [b"1", b"2", b"3"]


def test_503_says_when_to_come_back(lend_gateway: Starter) -> None:
    description = before(f"127.0.0.1:{free_port()}", check={"tcp": True, "interval": "100ms"})
    gateway = lend_gateway(description)
    gateway.wait_for_log("is DOWN")
    with RawClient(gateway.port) as client:
        answer = client.get()
        assert (answer.status, answer.header("Retry-After")) == (503, "5")


def test_a_site_has_its_own_error_pages(start_gateway: Starter, tmp_path: Path) -> None:
    (tmp_path / "502.html").write_text("<p>sorry")
    description = {**before(f"127.0.0.1:{free_port()}"), "pages": {502: "502.html"}}
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client:
        answer = client.get()
        assert (answer.status, answer.body) == (502, b"<p>sorry")
        assert answer.header("Content-Type") == "text/html; charset=utf-8"


def test_a_server_at_its_limit_gets_no_more(lend_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    (server,) = start_servers("app1")
    description = site([])
    description["backends"] = {"app": {"servers": [{"address": server.address, "max_connections": 1}]}}
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as one, RawClient(gateway.port) as other:
        one.send(b"GET /when/go HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: server.count == 1, "the one that it takes")
        assert other.get("/bytes/1").status == 503
        (tmp_path / "go").touch()
        assert one.response().status == 200
        assert other.get("/bytes/1").status == 200


def test_an_unused_connection_to_a_server_is_closed_in_time(lend_gateway: Starter) -> None:
    ended: list[float] = []

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(OK + b"Content-Length: 2\r\n\r\nok")
        began = time.monotonic()
        if connection.recv(1) == b"":
            ended.append(time.monotonic() - began)

    with RawServer(script) as server:
        gateway = lend_gateway(before(server.address, timeouts={"idle": "400ms"}))
        with RawClient(gateway.port) as client:
            assert client.get().body == b"ok"
            eventually(lambda: len(ended) == 1, "the connection to the server to close")
    assert ended[0] > 0.3
