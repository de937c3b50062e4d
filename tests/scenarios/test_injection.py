"""Servers and clients that close, reset or stall at every point of a message, in every framing.

Whatever happens: a status or a broken connection that the client can see, no error in the log, nothing counted as
in flight afterwards, and no descriptor left open.
"""

import contextlib
import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import pytest

from tests.support.gateway_process import GatewayProcess, site
from tests.support.kernel import send_and_wait
from tests.support.raw import RawClient
from tests.support.raw_server import RawServer, Script, replies
from tests.support.waiting import eventually

How = Literal["close", "reset", "stall"]
HOWS: tuple[How, ...] = ("close", "reset", "stall")
TIMEOUT = "500ms"  # of the gateway; much longer than this process ever needs for its next step
LINGER = struct.pack("ii", 1, 0)
REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
HEAD = b"HTTP/1.1 200 OK\r\n"


@dataclass(frozen=True, slots=True)
class Point:
    """A server sends `data` and then fails; the client gets `status`, and the body if it is `whole`."""

    name: str
    data: bytes
    status: int
    whole: bool = False


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = HEAD + b"Content-Length: 10\r\n\r\n"
POINTS = [
    Point("before the head", b"", 502),
    Point("within the status line", b"HTTP/1.", 502),
    Point("within the head", HEAD + b"Content-Le", 502),
    Point("after an interim head", b"HTTP/1.1 103 Early Hints\r\n\r\n", 502),
    Point("chunks: after the head", CHUNKED, 200),
    Point("chunks: within a size", CHUNKED + b"5", 200),
    Point("chunks: within a chunk", CHUNKED + b"5\r\nhel", 200),
    Point("chunks: before the CRLF of a chunk", CHUNKED + b"5\r\nhello", 200),
    Point("chunks: between chunks", CHUNKED + b"5\r\nhello\r\n", 200),
    Point("chunks: after the last size", CHUNKED + b"5\r\nhello\r\n0\r\n", 200),
    Point("chunks: within a trailer", CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1", 200),
    Point("chunks: before the last LF", CHUNKED + b"5\r\nhello\r\n0\r\n\r", 200),
    Point("chunks: after the end", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", 200, whole=True),
    Point("length: after the head", LENGTH, 200),
    Point("length: within the body", LENGTH + b"hello", 200),
    Point("length: after the end", LENGTH + b"helloworld", 200, whole=True),
    Point("neither: after the head", HEAD + b"\r\n", 200),
    Point("neither: within the body", HEAD + b"\r\nhello", 200),
]


def failing(data: bytes, how: How) -> Script:
    """Return a script that sends `data`, has it read, and fails."""

    def script(connection: socket.socket, _: bytes) -> None:
        if data:
            send_and_wait(connection, data)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        elif how == "stall":
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(65536):
                    pass

    return script


class Setup:
    """A gateway before one server that takes one request at a time: what stays counted blocks the next one."""

    def __init__(self, gateway: GatewayProcess, server: RawServer) -> None:
        self.gateway = gateway
        self.server = server
        self._worker = psutil.Process(gateway.workers()[0])
        self.settled()
        self._descriptors = self._worker.num_fds()

    def settled(self) -> None:
        """Wait until a request gets through: nothing is in flight. Raises AssertionError."""
        self.server.script = replies(GOOD)

        def served() -> bool:
            try:
                with RawClient(self.gateway.port) as client:
                    answer = client.get()
            except (ConnectionError, http.client.HTTPException):  # this process came too late with its request
                return False
            seen.append(answer.status)
            return answer.body == b"good"

        seen: list[int] = []

        try:
            eventually(served, "the server to be free")
        except AssertionError as error:
            raise AssertionError(f"{error}: {sorted(set(seen))}") from None

    def check(self) -> None:
        """Check that nothing is left of a failure. Raises AssertionError."""
        self.settled()
        eventually(lambda: self._worker.num_fds() <= self._descriptors, "descriptors to be closed")
        assert "ERROR" not in self.gateway.log
        assert "Traceback" not in self.gateway.log


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    directory: Path = tmp_path_factory.mktemp("injection")
    with RawServer(replies(GOOD)) as server:
        description = site([])
        description["frontends"][0]["limits"] = {"header_timeout": TIMEOUT, "idle_timeout": TIMEOUT}
        description["backends"] = {
            "app": {
                "servers": [{"address": server.address, "max_connections": 1}],
                "timeouts": {"response": TIMEOUT},
            }
        }
        with GatewayProcess(directory, description) as gateway:
            yield Setup(gateway, server)


# -------------------------------------------------------------------------------------------------------------- servers


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("point", POINTS, ids=[point.name for point in POINTS])
def test_a_server_that_fails(setup: Setup, point: Point, how: How) -> None:
    setup.server.script = failing(point.data, how)
    with RawClient(setup.gateway.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        # An answer that ends with the connection is whole when the server closes in good order.
        whole = point.whole or (point.name.startswith("neither") and how == "close")
        if point.status == 502:
            answer = client.response()
            assert answer.status == (504 if how == "stall" else 502)
        elif whole:
            assert client.response().body in (b"", b"hello", b"helloworld")
        else:
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError, ValueError)):
                client.response()
    setup.check()


@pytest.mark.parametrize("how", HOWS)
def test_a_server_that_fails_within_an_upload(setup: Setup, how: How) -> None:
    answered = threading.Event()

    def script(connection: socket.socket, _: bytes) -> None:
        if how == "stall":  # reads nothing until the client has its answer
            answered.wait(20.0)
        failing(b"", how)(connection, b"")

    setup.server.script = script
    with RawClient(setup.gateway.port) as client:
        # Who is answered before all was sent may find the connection closed.
        with contextlib.suppress(ConnectionError):
            client.send(REQUEST + b"Content-Length: 20000000\r\n\r\n" + b"x" * 20_000_000)
        with contextlib.suppress(ConnectionError, http.client.BadStatusLine):
            assert client.response().status == (504 if how == "stall" else 502)
    answered.set()
    setup.check()


# -------------------------------------------------------------------------------------------------------------- clients


def leave(client: RawClient, how: How) -> None:
    """Close or reset; a client that stalls waits until the gateway gives up."""
    if how == "reset":
        return client.reset()
    if how == "stall":
        client.read()
    return client.close()


CLIENT_POINTS = {
    "before the head": b"",
    "within the request line": b"POS",
    "within the head": REQUEST + b"Content-Le",
    "length: after the head": REQUEST + b"Content-Length: 10\r\n\r\n",
    "length: within the body": REQUEST + b"Content-Length: 10\r\n\r\nhello",
    "chunks: after the head": REQUEST + b"Transfer-Encoding: chunked\r\n\r\n",
    "chunks: within a size": REQUEST + b"Transfer-Encoding: chunked\r\n\r\n5",
    "chunks: within a chunk": REQUEST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
    "chunks: between chunks": REQUEST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "chunks: before the last CRLF": REQUEST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("data", CLIENT_POINTS.values(), ids=CLIENT_POINTS)
def test_a_client_that_fails_within_its_request(setup: Setup, data: bytes, how: How) -> None:
    setup.server.script = failing(b"", "stall")
    with RawClient(setup.gateway.port) as client:
        if data:
            send_and_wait(client.socket, data)
        leave(client, how)
    setup.check()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_while_it_waits(setup: Setup, how: How) -> None:
    waiting: list[bytes] = []

    def script(connection: socket.socket, head: bytes) -> None:
        waiting.append(head)
        with contextlib.suppress(ConnectionResetError):
            connection.recv(1)  # the gateway lets go

    setup.server.script = script
    with RawClient(setup.gateway.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: bool(waiting), "the request to arrive")
        leave(client, how)
    setup.check()


ENDLESS = b"x" * 65536


def pouring(head: bytes, block: bytes) -> Script:
    """Return a script that sends `head`, then `block` until the gateway lets go."""

    def script(connection: socket.socket, _: bytes) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(head)
            while True:
                connection.sendall(block)

    return script


FLOODS = {
    "length": (HEAD + b"Content-Length: 100000000000\r\n\r\n", ENDLESS),
    "chunks": (CHUNKED, b"10000\r\n" + ENDLESS + b"\r\n"),
    "neither": (HEAD + b"\r\n", ENDLESS),
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_client_that_fails_within_its_answer(setup: Setup, flood: tuple[bytes, bytes], how: How) -> None:
    setup.server.script = pouring(*flood)
    with RawClient(setup.gateway.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read(b"\r\n\r\n")
        if how == "stall":  # reads nothing more: the gateway stops reading from the server, waits, and breaks both
            setup.settled()
        leave(client, "close" if how == "stall" else how)
    setup.check()


@pytest.mark.parametrize("how", HOWS)
def test_a_client_that_fails_between_two_requests(setup: Setup, how: How) -> None:
    setup.server.script = replies(GOOD)
    with RawClient(setup.gateway.port) as client:
        assert client.get().body == b"good"
        leave(client, how)
    setup.check()


def test_a_pipelining_client_that_leaves(setup: Setup) -> None:
    setup.server.script = failing(b"", "stall")
    with RawClient(setup.gateway.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
        eventually(lambda: len(setup.server.heads) > 0, "the first to arrive")
        leave(client, "reset")
    setup.check()
