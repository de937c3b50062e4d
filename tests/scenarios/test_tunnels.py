"""Upgrades: a tunnel after a valid 101, and only then."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.raw_server import RawServer, replies
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]

ASK = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Mine: 1\r\n\r\n"


def before(*addresses: str, **backend: Any) -> dict[str, Any]:
    return {**site([]), "backends": {"app": {"servers": list(addresses), **backend}}}


def echo(connection: socket.socket, head: bytes) -> None:
    """Agree, send back what comes, and say goodbye when the client has."""
    connection.sendall(AGREED + b"first")
    data = head.partition(b"\r\n\r\n")[2]
    while data:
        connection.sendall(data)
        data = connection.recv(65536)
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.sendall(b"bye")


def test_bytes_pass_both_ways_and_each_end_closes_for_itself(lend_gateway: Starter) -> None:
    with RawServer(echo) as server:
        gateway = lend_gateway(before(server.address))
        with RawClient(gateway.port) as client:
            client.send(ASK + b"ahead")  # before the server has agreed
            head = client.read(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            assert b"Upgrade: websocket\r\n" in head
            assert b"Connection: upgrade\r\n" in head
            assert b"X-Mine: 1\r\n" in head
            assert client.read(b"ahead") == b"firstahead"
            large = bytes(range(256)) * 4000
            client.send(large)
            client.send(b"GET / HTTP/9.9\r\n\r\n")  # no HTTP any more
            client.end()
            assert client.read() == large + b"GET / HTTP/9.9\r\n\r\nbye"
        assert b"\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n" in server.heads[0]


def test_a_server_may_end_first(lend_gateway: Starter) -> None:
    heard = []

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(AGREED + b"all I have")
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(65536):
            heard.append(data)
        heard.append(b"end")

    with RawServer(script) as server:
        gateway = lend_gateway(before(server.address))
        with RawClient(gateway.port) as client:
            client.send(ASK)
            client.read(b"\r\n\r\n")
            assert client.read() == b"all I have"
            client.send(b"more")
            client.end()
            eventually(lambda: heard == [b"more", b"end"], "the server to hear the rest")


def test_a_server_may_decline_and_the_connection_goes_on(lend_gateway: Starter) -> None:
    with RawServer(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", keep=True)) as server:
        gateway = lend_gateway(before(server.address))
        with RawClient(gateway.port) as client:
            assert client.ask(ASK + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").body == b"no"
            assert len(server.heads) == 1


@pytest.mark.parametrize(
    "ask",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_a_101_that_was_not_asked_for_is_no_answer(lend_gateway: Starter, ask: bytes) -> None:
    with RawServer(replies(AGREED, keep=True)) as server:
        gateway = lend_gateway(before(server.address))
        with RawClient(gateway.port) as client:
            assert client.ask(ask).status == 502
        if b"Upgrade: other" not in ask:
            assert b"Upgrade" not in server.heads[0]


def test_a_silent_tunnel_ends(lend_gateway: Starter) -> None:
    with RawServer(echo) as server:
        gateway = lend_gateway(before(server.address, timeouts={"tunnel": "300ms"}))
        with RawClient(gateway.port) as client:
            client.send(ASK)
            client.read(b"first")
            for _ in range(4):  # longer than the limit in all
                client.send(b"ping")
                assert client.read(b"ping") == b"ping"
            assert client.is_closed()


def test_a_reload_cuts_no_tunnel_and_a_reset_ends_both_sides(lend_gateway: Starter) -> None:
    ended = []

    def script(connection: socket.socket, head: bytes) -> None:
        try:
            echo(connection, head)
        finally:
            ended.append(True)

    with RawServer(script) as server:
        description = before(server.address)
        gateway = lend_gateway(description)
        with RawClient(gateway.port) as client:
            client.send(ASK)
            client.read(b"first")
            gateway.reload({**description, "routes": [{"respond": {"status": 204}}]})
            with RawClient(gateway.port) as other:
                eventually(lambda: other.get().status == 204, "the new routes")
            client.send(b"still here")
            assert client.read(b"here") == b"still here"
            client.reset()
        eventually(lambda: ended == [True], "the server's side to end")


def test_trailers_pass_but_not_those_that_mean_something(lend_gateway: Starter) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\n"
        b"Content-Length: 7\r\nX-Forwarded-For: 6.6.6.6\r\nSet-Cookie: a=b\r\nContent-Encoding: gzip\r\nX_Forwarded_For: 1\r\n\r\n"
    )
    with RawServer(replies(answer)) as server:
        gateway = lend_gateway(before(server.address))
        with RawClient(gateway.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
            data = client.read(b"grpc-status: 0\r\n\r\n")
            assert b"\r\nTrailer: grpc-status\r\n" in data
            assert data.endswith(b"\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n")
        assert b"\r\nTE: trailers\r\nConnection: TE\r\n" in server.heads[0]
        with RawClient(gateway.port) as client:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            assert client.read().endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("protocol", ["SPDY/3.1", "tcp", "rats/1.0"])
@pytest.mark.parametrize("body", [b"", b'{"Detach":false,"Tty":false}', b"x" * 300_000])
def test_a_protocol_has_a_version_and_a_request_a_body(lend_gateway: Starter, protocol: str, body: bytes) -> None:
    """kubectl exec (POST, SPDY/3.1) and docker exec (POST with a body, tcp): RFC 9110 section 7.8 has both."""
    got = bytearray()

    def script(connection: socket.socket, head: bytes) -> None:
        got.extend(head.partition(b"\r\n\r\n")[2])
        while len(got) < len(body):
            got.extend(connection.recv(65536))
        connection.sendall(f"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\nhello".encode())
        connection.sendall(connection.recv(100))

    with RawServer(script) as server:
        gateway = lend_gateway(before(server.address))
        ask = (
            f"POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with RawClient(gateway.port) as client:
            client.send(ask.encode() + body)
            head = client.read(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert f"\r\nUpgrade: {protocol}\r\n".encode() in head
            assert client.read(b"hello") == b"hello"
            client.send(b"through")
            assert client.read(b"through") == b"through"
            assert bytes(got) == body


@pytest.mark.parametrize("protocol", ["h2c", "HTTP/2.0", "SPDY/", "/3.1", "a/b/c", "a b", "websocket, tcp", "SPDY/3 1"])
def test_without_another_protocol_it_is_no_upgrade(lend_gateway: Starter, protocol: str) -> None:
    with RawServer(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as server:
        gateway = lend_gateway(before(server.address))
        with RawClient(gateway.port) as client:
            assert client.get("/", "Connection: Upgrade", f"Upgrade: {protocol}").body == b"ok"
    assert b"upgrade" not in server.heads[0].lower()


def test_no_protocol_begins_within_a_request(lend_gateway: Starter) -> None:
    """What followed of the body would reach the new protocol as if it were a part of it."""
    with RawServer(replies(AGREED, keep=True)) as server:
        gateway = lend_gateway(before(server.address, retries={"attempts": 0}))
        with RawClient(gateway.port) as client:
            client.send(ASK.replace(b"\r\n\r\n", b"\r\nContent-Length: 10\r\n\r\n") + b"half")
            assert client.response().status == 502
        gateway.wait_for_log("it switches protocols before the request is complete")
