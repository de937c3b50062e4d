"""Retries: only what may be repeated, never more than the budget, with the body that was there."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.raw_server import RawServer, replies
from tests.support.waiting import free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

# The server closes after its answer, and says so: else the next request may meet a connection that is about to close.
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbusy"


def before(*addresses: str, **backend: Any) -> dict[str, Any]:
    return {**site([]), "backends": {"app": {"balance": "round-robin", "servers": list(addresses), **backend}}}


def read_all(seen: list[bytes], then: bytes = b"") -> Callable[[socket.socket, bytes], None]:
    """A script that notes the request up to 5 bytes of body or the last chunk, then sends `then` and closes."""

    def script(connection: socket.socket, data: bytes) -> None:
        while not data.endswith((b"hello", b"0\r\n\r\n")):
            data += connection.recv(65536)
        seen.append(data.partition(b"\r\n\r\n")[2])
        connection.sendall(then)

    return script


@pytest.mark.parametrize(
    "body, repeated",
    [
        (b"Content-Length: 5\r\n\r\nhello", b"hello"),
        # What is kept is the content: it goes out again in a chunk of its own.
        (
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\r\n\r\n",
        ),
    ],
)
def test_a_put_is_repeated_with_its_body(lend_gateway: Starter, body: bytes, repeated: bytes) -> None:
    seen: list[bytes] = []
    with RawServer(read_all(seen)) as one, RawServer(read_all(seen)) as two, RawServer(read_all(seen, OK)) as three:
        gateway = lend_gateway(before(one.address, two.address, three.address))
        with RawClient(gateway.port) as client:
            assert client.ask(b"PUT / HTTP/1.1\r\nHost: a\r\n" + body).body == b"ok"
    assert seen == [body.partition(b"\r\n\r\n")[2], repeated, repeated]


def test_a_long_body_is_not_kept(lend_gateway: Starter, start_servers: Servers) -> None:
    def script(connection: socket.socket, _: bytes) -> None:
        left = 200_000
        while left > 0:
            left -= len(connection.recv(65536))

    (server,) = start_servers("app1")
    with RawServer(script) as broken:
        gateway = lend_gateway(before(broken.address, server.address))
        with RawClient(gateway.port) as client:
            client.send(b"PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000))
            assert client.response().status == 502
    assert server.count == 0


def test_statuses_that_are_worth_another_try(lend_gateway: Starter) -> None:
    with RawServer(replies(BUSY)) as busy, RawServer(replies(OK)) as good:
        retries = {"on": ["connect", "503"]}
        gateway = lend_gateway(before(busy.address, good.address, retries=retries))
        with RawClient(gateway.port) as client:
            assert [client.get().body for _ in range(4)] == [b"ok"] * 4
            asked = len(busy.heads)
            assert asked >= 1
            posts = [client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status for _ in range(2)]
            assert sorted(posts) == [200, 503]  # a POST may have been done


def test_the_answer_passes_if_there_is_no_other_server(lend_gateway: Starter) -> None:
    with RawServer(replies(BUSY)) as one, RawServer(replies(BUSY)) as two:
        gateway = lend_gateway(before(one.address, two.address, retries={"on": ["503"]}))
        with RawClient(gateway.port) as client:
            answer = client.get()
            assert (answer.status, answer.body) == (503, b"busy")
        assert len(one.heads) + len(two.heads) == 2


def test_nothing_is_repeated_if_the_site_says_so(lend_gateway: Starter) -> None:
    dead = f"127.0.0.1:{free_port()}"
    with RawServer(replies(OK)) as good:
        gateway = lend_gateway(before(dead, good.address, retries={"attempts": 0}))
        with RawClient(gateway.port) as client:
            assert sorted(client.get().status for _ in range(4)) == [200, 200, 502, 502]


def test_retries_never_multiply_an_outage(lend_gateway: Starter) -> None:
    """Everything is broken: 200 requests cost the servers at most the first credit and a fifth more."""
    with RawServer(replies()) as one, RawServer(replies()) as two, RawServer(replies()) as three:
        gateway = lend_gateway(before(one.address, two.address, three.address, retries={"attempts": 5}))
        with RawClient(gateway.port) as client:
            assert {client.get().status for _ in range(200)} == {502}
        asked = len(one.heads) + len(two.heads) + len(three.heads)
        assert 200 + 20 <= asked <= 200 + 10 + 40 + 1
