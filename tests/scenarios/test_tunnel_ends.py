"""How tunnels end: either side first, both at once, or by a reset; over TLS with close_notify and without."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.half_client import HalfClient, reset
from tests.support.lives import Door, becomes_quiet
from tests.support.raw import LIMIT
from tests.support.raw_server import RawServer, Script, replies
from tests.support.waiting import eventually, free_port

ASK = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
UP = random.Random(1).randbytes(200_000)
DOWN = random.Random(2).randbytes(200_000)
LARGE = random.Random(3).randbytes(8_000_000)
TIMES = 3  # each: what is wrong may not show at once

Stage = tuple[GatewayProcess, RawServer]


@pytest.fixture(scope="module")
def stage(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One gateway before one server, whose script each test sets."""
    with RawServer(replies(b"")) as server:
        site = door.site({"app": {"servers": [server.address]}}, port=free_port())
        with GatewayProcess(tmp_path_factory.mktemp("tunnels"), site) as gateway:
            yield gateway, server


@contextlib.contextmanager
def tunnel(stage: Stage, door: Door, script: Script) -> Iterator[HalfClient]:
    """Open a tunnel to a server that runs `script` after its 101 response."""
    gateway, server = stage

    def agree(connection: socket.socket, head: bytes) -> None:
        connection.sendall(AGREED)
        script(connection, head.partition(b"\r\n\r\n")[2])

    server.script = agree
    with door.half(gateway) as client:
        client.send(ASK)
        client.read(b"\r\n\r\n")
        yield client


def hear(connection: socket.socket, data: bytes = b"", pause: float = 0.0) -> bytes:
    """All that comes until the other side ends its half, behind `data`. Raises OSError.

    pause: seconds between two reads, so that the gateway has to wait for room again and again.
    """
    pieces = [data]
    while piece := connection.recv(1 << 16):
        pieces.append(piece)
        time.sleep(pause)
    return b"".join(pieces)


@pytest.fixture(autouse=True)
def nothing_else_suffers(stage: Stage, door: Door) -> Iterator[None]:
    with door.beside(stage[0]):
        yield
        becomes_quiet(stage[0])


def test_the_client_ends_first(stage: Stage, door: Door) -> None:
    for _ in range(TIMES):
        heard: list[bytes] = []

        def script(connection: socket.socket, ahead: bytes, heard: list[bytes] = heard) -> None:
            heard.append(hear(connection, ahead))
            connection.sendall(DOWN)

        with tunnel(stage, door, script) as client:
            client.send(UP)
            client.half_close()
            assert client.rest() == DOWN
            assert heard == [UP]


def test_the_server_ends_first(stage: Stage, door: Door) -> None:
    for _ in range(TIMES):
        heard: list[bytes] = []

        def script(connection: socket.socket, ahead: bytes, heard: list[bytes] = heard) -> None:
            connection.sendall(DOWN)
            connection.shutdown(socket.SHUT_WR)
            heard.append(hear(connection, ahead))

        with tunnel(stage, door, script) as client:
            assert client.rest() == DOWN
            client.send(UP)
            client.half_close()
            eventually(lambda: heard == [UP], "all to arrive at the server")  # noqa: B023


def test_both_end_at_the_same_time(stage: Stage, door: Door) -> None:
    for _ in range(TIMES):
        together = threading.Barrier(2, timeout=LIMIT)
        heard: list[bytes] = []

        def script(
            connection: socket.socket, ahead: bytes, together: threading.Barrier = together, heard: list[bytes] = heard
        ) -> None:
            together.wait()
            connection.sendall(DOWN)
            connection.shutdown(socket.SHUT_WR)
            heard.append(hear(connection, ahead))

        with tunnel(stage, door, script) as client:
            together.wait()
            client.send(UP)
            client.half_close()
            assert client.rest() == DOWN
            eventually(lambda: heard == [UP], "all to arrive at the server")  # noqa: B023


def test_the_client_ends_with_a_bare_fin(stage: Stage, door: Door) -> None:
    """Under TLS the close_notify is missing; what was sent before arrives all the same, and then the server hears the end."""
    for _ in range(TIMES):
        heard: list[bytes] = []

        def script(connection: socket.socket, ahead: bytes, heard: list[bytes] = heard) -> None:
            heard.append(hear(connection, ahead))

        with tunnel(stage, door, script) as client:
            client.send(UP)
            client.fin()
            eventually(lambda: heard == [UP], "all to arrive at the server")  # noqa: B023
            with contextlib.suppress(ConnectionError, EOFError):
                client.rest()


def test_the_client_resets(stage: Stage, door: Door) -> None:
    for _ in range(TIMES):
        heard = bytearray()
        over = threading.Event()

        def script(
            connection: socket.socket, ahead: bytes, heard: bytearray = heard, over: threading.Event = over
        ) -> None:
            heard.extend(ahead)
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(1 << 16):
                    heard.extend(piece)
            over.set()

        with tunnel(stage, door, script) as client:
            client.send(UP)
            eventually(lambda: len(heard) == len(UP), "all to arrive at the server")  # noqa: B023
            client.reset()
            assert over.wait(LIMIT)
            assert heard == UP


def test_the_server_resets(stage: Stage, door: Door) -> None:
    """The client must not take that for an ordinary end."""
    for _ in range(TIMES):
        read = threading.Event()

        def script(connection: socket.socket, _: bytes, read: threading.Event = read) -> None:
            connection.sendall(DOWN)
            assert read.wait(LIMIT)
            reset(connection)

        with tunnel(stage, door, script) as client:
            assert client.read(DOWN) == DOWN
            read.set()
            with pytest.raises(OSError, match=r"reset|EOF"):
                client.rest()


@pytest.mark.parametrize("knows", [True, False], ids=["when it has heard the end", "while the end comes"])
def test_a_client_goes_on_after_the_server_has_ended(stage: Stage, door: Door, knows: bool) -> None:  # noqa: FBT001
    """The server reads on after its last byte, and gets every byte that the client sends."""
    heard: list[bytes] = []
    begun = threading.Event()

    def script(connection: socket.socket, ahead: bytes) -> None:
        if not knows:
            assert begun.wait(LIMIT)
        connection.shutdown(socket.SHUT_WR)
        heard.append(hear(connection, ahead, pause=0.002))

    with tunnel(stage, door, script) as client:
        if knows:
            assert client.rest() == b""
        client.send(LARGE[:1_000_000])
        begun.set()
        client.send(LARGE[1_000_000:])
        client.half_close()
        eventually(lambda: len(heard) == 1, "the end to arrive at the server")
        assert len(heard[0]) == len(LARGE)
        assert heard[0] == LARGE


def test_a_server_goes_on_after_the_client_has_ended(stage: Stage, door: Door) -> None:
    ended = threading.Event()

    def script(connection: socket.socket, ahead: bytes) -> None:
        connection.sendall(LARGE[:1_000_000])
        if hear(connection, ahead) == UP:
            ended.set()
        connection.sendall(LARGE[1_000_000:])

    with tunnel(stage, door, script) as client:
        client.send(UP)
        client.half_close()
        got = client.rest()
        assert ended.is_set()
        assert len(got) == len(LARGE)
        assert got == LARGE
