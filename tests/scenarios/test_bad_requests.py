"""Requests that are none: an exact status, a closed connection, and nothing reaches a server."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

P = b"POST / HTTP/1.1\r\nHost: a\r\n"
G = b"GET / HTTP/1.1\r\nHost: a\r\n"

BAD = [
    (
        P
        + b"Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    (P + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    (P + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
    (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (G + b"X: a\r\n b\r\n\r\n", 400),
    (G + b"X: a\nY: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /a%2f..%2fadmin HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /\r\n", 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"\x16\x03\x01\x02\x00\x01", 400),
    (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
    (P + b"Expect: something\r\nContent-Length: 1\r\n\r\n", 417),
    (b"GET /" + b"a" * 1_000_000, 414),
    (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (G + b"X: a\r\n" * 5000 + b"\r\n", 431),
    (G + b"X: " + b"a" * 1_000_000, 431),
    (G + b"Cookie: " + b"a" * 64_000 + b"\r\n\r\n", 431),
    (P + b"Content-Length: 2000000000\r\n\r\n", 413),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, BackendServer]]:
    """One gateway before one server for the whole module."""
    directory = tmp_path_factory.mktemp("bad")
    with BackendServer(directory, "app1") as server, GatewayProcess(directory, site([server])) as gateway:
        yield gateway, server


@pytest.mark.parametrize("data, status", BAD, ids=[repr(data[:60]) for data, _ in BAD])
def test_malformed_request(served: tuple[GatewayProcess, BackendServer], data: bytes, status: int) -> None:
    gateway, server = served
    before = server.count
    with RawClient(gateway.port) as client:
        client.send(data)
        answer = client.response()
        assert (answer.status, answer.header("Connection")) == (status, "close")
        assert client.is_closed()
    assert server.count == before


BAD_BODIES = [
    b"5\r\r;a\r\nhello", b"5;a\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"-1\r\n", b"fffffffffffffffff\r\n",
    b"5\r\nhelloX0\r\n\r\n", b"5;" + b"a" * 100_000, b"0\r\nTrailer\r\n\r\n", b"3\r\nabc\r\n+2\r\nde\r\n0\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_BODIES, ids=[repr(body[:24]) for body in BAD_BODIES])
def test_malformed_body(served: tuple[GatewayProcess, BackendServer], body: bytes) -> None:
    gateway, _ = served
    with RawClient(gateway.port) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        answer = client.response()
        assert (answer.status, answer.header("Connection")) == (400, "close")
        assert client.is_closed()
    # Whatever the server saw of it, it saw an unfinished body: the next request is a request of its own.
    with RawClient(gateway.port) as client:
        assert client.get("/bytes/3").body == b"abc"


def test_a_chunked_body_over_the_limit(start_gateway: Starter, start_servers: Servers) -> None:
    description = site(start_servers("app1"))
    description["frontends"][0]["limits"] = {"body_bytes": "10KiB"}
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client:
        client.send(
            b"POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3e8\r\n" + b"x" * 1000 + b"\r\n"
        )
        client.send((b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 10)
        assert client.response().status == 413
        assert client.is_closed()


def test_a_head_that_never_ends(start_gateway: Starter, start_servers: Servers) -> None:
    description = site(start_servers("app1"))
    description["frontends"][0]["limits"] = {"header_timeout": "300ms", "idle_timeout": "500ms"}
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client:
        client.send(b"GET / HTT")
        answer = client.response()
        assert (answer.status, answer.header("Connection")) == (408, "close")
        assert client.is_closed()
    with RawClient(gateway.port) as client:
        assert client.is_closed()  # who says nothing hears nothing
    with RawClient(gateway.port) as client:
        assert client.get("/bytes/1").status == 200
        assert client.is_closed()  # keep-alive ends
    with RawClient(gateway.port) as client:
        client.send(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        assert client.response().status == 408
        assert client.is_closed()


def test_nothing_of_it_is_an_error_in_the_log(served: tuple[GatewayProcess, BackendServer]) -> None:
    gateway, _ = served
    assert "ERROR" not in gateway.log
    assert "Traceback" not in gateway.log
