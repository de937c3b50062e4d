"""PROXY headers to servers: what they say of the client, and whose connection it then is."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.wire.proxy_protocol import MAX_V2, Header, parse
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.raw_server import Acceptor, RawServer, read_head, replies
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]


class Reader(Acceptor):
    """Answers with the client of its PROXY header and the number of the connection; `headers` are all that came."""

    def __init__(self, name: str, authority: Authority | None = None) -> None:
        super().__init__()
        self.name = name
        self.headers: list[bytes] = []
        self._context = None if authority is None else authority.server_context(authority.issue("localhost"))

    def serve(self, connection: socket.socket, number: int) -> None:
        """Read the header, then requests, in TLS if there is a certificate."""
        header: Header | None = None
        while header is None:
            header = parse(connection.recv(MAX_V2, socket.MSG_PEEK))
        self.headers.append(connection.recv(header.length))
        secure = self._context.wrap_socket(connection, server_side=True) if self._context is not None else connection
        with secure:
            while read_head(secure):
                body = f"{self.name} {number} {header.source} {header.port}".encode()
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@pytest.fixture(scope="module")
def checked() -> Iterator[RawServer]:
    """A server that is only checked."""
    with RawServer(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")) as server:
        yield server


@pytest.fixture(scope="module")
def readers(authority: Authority) -> Iterator[list[Reader]]:
    with Reader("plain") as plain, Reader("tls", authority) as tls:
        yield [plain, tls]


def described(readers: list[Reader], checked: RawServer, authority: Authority) -> dict[str, Any]:
    plain, tls = readers
    check = {"http": "/", "interval": "100ms"}
    return {
        **site([plain]),
        "backends": {
            "app": {"servers": [{"name": "plain", "address": plain.address}], "proxy_protocol": "v1", "check": check},
            "secure": {
                "servers": [{"name": "tls", "address": f"localhost:{tls.port}"}],
                "proxy_protocol": "v2",
                "check": check,
                "tls": {"ca": str(authority.ca)},
            },
            "elsewhere": {
                "servers": [{"name": "tls", "address": f"localhost:{tls.port}"}],
                "proxy_protocol": "v1",
                "check": {**check, "method": "HEAD", "host": "a.example", "port": checked.port, "tls": False},
                "tls": {"ca": str(authority.ca)},
            },
        },
        "routes": [
            {"match": {"path": "/tls"}, "backend": "secure"},
            {"match": {"path": "/else"}, "backend": "elsewhere"},
            {"backend": "app"},
        ],
    }


def test_each_client_has_connections_that_begin_with_its_address(
    start_gateway: Starter, readers: list[Reader], checked: RawServer, authority: Authority
) -> None:
    description = described(readers, checked, authority)
    description["frontends"][0]["trusted_proxies"] = ["127.0.0.1"]
    gateway = start_gateway(description)
    with RawClient(gateway.port) as one, RawClient(gateway.port) as two:
        ports = [client.socket.getsockname()[1] for client in (one, two)]
        said = [client.get("/").body.decode().split() for client in (one, two, one, two)]
        assert [(source, int(port)) for _, _, source, port in said] == [("127.0.0.1", port) for port in ports * 2]
        assert said[0] == said[2]  # the same connection
        assert said[1] == said[3]
        assert said[0][1] != said[1][1]
        whole = f"PROXY TCP4 127.0.0.1 127.0.0.1 {ports[0]} {gateway.port}\r\n".encode()
        assert whole in readers[0].headers
        again = [one.get("/tls").body.decode().split() for _ in range(2)]
        assert again[0][2:] == ["127.0.0.1", str(ports[0])]
        assert again[0] == again[1]
        behind = [one.get("/", f"X-Forwarded-For: {client}").body.decode().split()
                  for client in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::1")]  # fmt: skip
        assert [item[2:] for item in behind[:2]] == [["192.0.2.1", "0"], ["192.0.2.2", "0"]]
        assert behind[2][2:] == ["2001:db8::1", "0"]
        assert behind[2] == behind[3]
        assert len({item[1] for item in behind}) == 3
    for reader, local in zip(readers, (b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), strict=True):
        eventually(lambda reader=reader, local=local: local in reader.headers, "a check")  # type: ignore[misc]
    eventually(lambda: len(checked.heads) > 1, "two checks of another port")
    assert checked.heads[0].startswith(b"HEAD / HTTP/1.1\r\nHost: a.example\r\n")
    assert "is DOWN" not in gateway.log
