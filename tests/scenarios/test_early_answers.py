"""Servers that answer before they have taken the whole body: their connection is not used for another request.

What they have not taken lies before the next request. Even if the kernel has all of it, the next one would wait behind
it until the server reads, which it may never do.
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.kernel import all_read
from tests.support.lives import Door, becomes_quiet
from tests.support.raw import LIMIT
from tests.support.raw_server import RawServer
from tests.support.waiting import eventually, free_port

EARLY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly"
RIGHT = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nright"


class EagerServer(RawServer):
    """Answers requests for `/early`, when it is told, and never reads from that connection again; the others at once."""

    def __init__(self) -> None:
        super().__init__(self.answer, receive_buffer=4096)
        self.now = threading.Event()
        self.let_go = threading.Event()

    def answer(self, connection: socket.socket, head: bytes) -> None:
        """Answer one request."""
        if b" /torn " in head:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\npart")  # it ends with the connection
            assert self.let_go.wait(LIMIT)
            return connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if b" /early " not in head:
            return connection.sendall(RIGHT)
        assert self.now.wait(LIMIT)
        connection.sendall(EARLY)
        assert self.let_go.wait(LIMIT)
        return None


@pytest.fixture(scope="module", params=[2, 0], ids=["retries", "no retries"])
def stage(
    request: pytest.FixtureRequest, door: Door, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[GatewayProcess, EagerServer]]:
    with EagerServer() as server:
        app = {"servers": [server.address], "retries": {"attempts": request.param}, "timeouts": {"response": "1s"}}
        with GatewayProcess(tmp_path_factory.mktemp("early"), door.site({"app": app}, port=free_port())) as gateway:
            yield gateway, server


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "size, sent",
    [
        pytest.param(3_000_000, 1_000_000, id="a part of the body sent"),
        pytest.param(300_000, 300_000, id="300 kB sent"),
        pytest.param(20_000, 20_000, id="all of it with the kernels"),
    ],
)
def test_the_next_request_is_answered_by_another_connection(
    stage: tuple[GatewayProcess, EagerServer],
    door: Door,
    method: str,
    size: int,
    sent: int,
) -> None:
    gateway, server = stage
    server.now.clear()
    server.let_go.clear()
    try:
        with door.beside(gateway):
            with door.raw(gateway) as client:
                before = server.connections
                client.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
                eventually(lambda: server.connections == before + 1, "the request to arrive")
                client.send(bytes(sent))
                if size == sent:
                    eventually(lambda: all_read(client.socket), "the gateway to take all of it")
                server.now.set()
                assert client.response("POST").body == b"early"
            with door.raw(gateway) as client:
                length = "" if method == "GET" else "Content-Length: 0\r\n"
                answer = client.ask(f"{method} /next HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode(), method)
                assert (answer.status, answer.body) == (200, b"right")
            assert server.connections == before + 2
            becomes_quiet(gateway)
    finally:
        server.let_go.set()


def test_an_answer_that_a_reset_ends_does_not_look_complete(
    stage: tuple[GatewayProcess, EagerServer], door: Door
) -> None:
    """Also if the gateway, which is sending the rest of the request, meets the reset there and not when it reads."""
    gateway, server = stage
    server.let_go.clear()
    with door.beside(gateway):
        with door.raw(gateway) as client:
            client.send(b"POST /torn HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + bytes(1_000_000))
            got = b""
            while b"part" not in got:
                got += client.socket.recv(65536)
            server.let_go.set()
            with suppress(OSError):  # TLS says that it was cut, TCP may reset
                while piece := client.socket.recv(65536):
                    got += piece
            assert b"Transfer-Encoding: chunked" in got
            assert not got.endswith(b"0\r\n\r\n")
        becomes_quiet(gateway)
