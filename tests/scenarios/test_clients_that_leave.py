"""Clients that close, half-close or reset, at every stage of a request: what counts as gone, and what is left of it.

A client may end its half right after its request and wait for the answer: it is answered, however long that takes. Gone
is one that resets; one that ends while a part of its body is missing; and one that ends more than a second after its
request while the answer is due (scripts end their half at once, people close the window later).
"""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conformance.recorder import HELD, Holding
from tests.support.gateway_process import GatewayProcess
from tests.support.half_client import HalfClient
from tests.support.kernel import unacknowledged, unread
from tests.support.lives import Door, Log, ShutServer, becomes_quiet, look_around
from tests.support.raw import LIMIT, RawClient
from tests.support.raw_server import RawServer, replies
from tests.support.waiting import eventually, free_port

LONG = 1.3  # seconds: later than this after its request, an end is no half-close any more
AT_ONCE = 0.8  # seconds, on a busy machine: far below every timeout, and below the second above
MISSING = 100_000  # bytes of a body that do not come
TCP_CLOSE = 7  # tcp_states.h
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
WHOLE = b"a" * 200_000  # more than a client with a small buffer takes at once
LEAVING = ["half_close_and_fin", "fin", "close"]  # under TLS: with close_notify, without, without


numbers = itertools.count()


def get(target: str, *lines: str) -> bytes:
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: a", *lines, "", "")).encode()


def post(target: str, missing: int = 0) -> bytes:
    """A POST; `missing` bytes of its body are not sent."""
    return f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {missing + 5}\r\n\r\nhello".encode()


def fresh(target: str) -> str:
    """A target that no other request has."""
    return f"{target.rstrip('/')}/{next(numbers)}"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(tmp_path_factory.mktemp("log"))


# ----------------------------------------------------------------------------------------------- at each stage but queues


@dataclass
class Stages:
    """A gateway before a server that does as it is told by the path, and one to which connect() stays pending."""

    door: Door
    gateway: GatewayProcess
    shut: ShutServer
    app: RawServer
    heard: list[bytes] = field(default_factory=list)  # requests that have arrived at `app`

    def script(self, connection: socket.socket, head: bytes) -> None:
        """Answer never, without end, or with a tunnel; go on until the connection ends."""
        self.heard.append(head)
        if b"/answer" in head:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nbegun")
            while True:  # until the connection is reset
                connection.sendall(bytes(1000))
                time.sleep(0.01)
        if b"/whole" in head:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE)
        if b"/tunnel" in head:
            connection.sendall(AGREED)
        while connection.recv(1 << 16):
            pass

    def bring(self, client: HalfClient, target: str, *, whole: bool) -> None:
        """Bring a request to the stage that its target names; without `whole`, a part of its body does not come."""
        if "/tunnel" in target:
            client.send(get(target, "Connection: upgrade", "Upgrade: echo"))
            client.read(b"\r\n\r\n")
        elif "/answer" in target:
            client.send(get(target))
            client.read(b"begun")
        elif "/head" in target:
            client.send(get(target)[:20])
        else:
            client.send(get(target) if whole else post(target, MISSING))
            if "/connect" in target:
                eventually(lambda: self.shut.asked(self.gateway) == 1, "the gateway to connect")
            else:
                eventually(lambda: any(target.encode() in head for head in self.heard), "the request to arrive")


@pytest.fixture(scope="module")
def stages(door: Door, log: Log, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    with ShutServer() as shut, RawServer(replies(b"")) as app:
        backends = {
            "app": {"servers": [app.address]},
            "shut": {"servers": [shut.address], "timeouts": {"connect": "4s"}, "retries": {"attempts": 0}},
        }
        routes: list[dict[str, Any]] = [{"match": {"path": "/connect"}, "backend": "shut"}, {"backend": "app"}]
        site = {**door.site(backends, *routes, port=free_port()), "access_log": log.section}
        with GatewayProcess(tmp_path_factory.mktemp("stages"), site) as gateway:
            stages = Stages(door, gateway, shut, app)
            app.script = stages.script
            yield stages


@pytest.mark.parametrize(
    "stage, whole, way",
    [
        ("head", False, "reset"),
        ("head", False, "close"),
        ("body", False, "reset"),
        ("body", False, "close"),
        ("connect", True, "reset"),
        ("connect", False, "close"),
        ("server", True, "reset"),
        ("answer", True, "reset"),
        ("answer", True, "close"),
        ("tunnel", True, "reset"),
        ("tunnel", True, "close"),
    ],
)
def test_nothing_is_left_of_a_client_that_leaves(
    stages: Stages, log: Log, stage: str, way: str, whole: bool  # noqa: FBT001
) -> None:  # fmt: skip
    """Connections open and requests at servers are counted down; the access log has it once."""
    target = fresh(f"/{stage}")
    with stages.door.beside(stages.gateway) as beside, stages.door.half(stages.gateway) as client:
        try:
            stages.bring(client, target, whole=whole)
            look_around(beside)
            getattr(client, way)()
            becomes_quiet(stages.gateway, 2.0)
        finally:
            becomes_quiet(stages.gateway)  # or the next one would count it
    if stage != "head":
        log.wait_for(target, {"answer": 200, "tunnel": 101}.get(stage, 499))


def test_an_upload_that_breaks_off_does_not_destroy_the_answer_before_it(stages: Stages, log: Log) -> None:
    """A socket closed with unread input is reset, and the reset destroys what the client has not acknowledged."""
    target = fresh("/connect")
    with stages.door.beside(stages.gateway), stages.door.half(stages.gateway) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(get(fresh("/whole")) + post(target, MISSING))
        eventually(lambda: stages.shut.asked(stages.gateway) == 1, "the gateway to connect")
        client.half_close_and_fin()
        log.wait_for(target, 499)
        assert client.rest().partition(b"\r\n\r\n")[2] == WHOLE
        becomes_quiet(stages.gateway)


# ------------------------------------------------------------------------------------------------------------ in a queue


@dataclass
class Queue:
    """A gateway whose only server is taken by a request that is held; one more may wait."""

    door: Door
    gateway: GatewayProcess
    server: Holding

    def has_a_place(self, beside: RawClient) -> bool:
        """Whether another client may wait; it leaves again if so, else it is told 503."""
        with self.door.half(self.gateway) as client:
            client.send(get("/more"))
            look_around(beside)
            client.socket.settimeout(0.0)
            try:
                return not client.recv().startswith(b"HTTP/1.1 503 ")
            except BlockingIOError:
                client.reset()
                return True


@pytest.fixture(scope="module")
def queue(door: Door, log: Log, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    with Holding() as server:
        app = {"servers": [{"address": server.address, "max_connections": 1}], "queue": {"limit": 1, "timeout": "30s"}}
        site = {**door.site({"app": app}, port=free_port()), "access_log": log.section}
        with GatewayProcess(tmp_path_factory.mktemp("queue"), site) as gateway:
            yield Queue(door, gateway, server)


@pytest.fixture
def beside(queue: Queue) -> Iterator[RawClient]:
    """Has the server taken for the time of a test, and holds the gateway to having nothing left afterwards."""
    queue.server.clear()
    queue.server.let_go.clear()
    with queue.door.beside(queue.gateway) as client:
        with queue.door.raw(queue.gateway) as first:
            first.send(get(fresh(HELD.decode())))
            eventually(lambda: len(queue.server.arrivals) == 1, "the first to arrive")
            yield client
            queue.server.let_go.set()
            assert first.response().status == 200
        becomes_quiet(queue.gateway)


@pytest.mark.parametrize("request_of", [get, post], ids=["without a body", "with a body"])
def test_one_that_ends_its_half_at_once_is_answered_after_a_long_wait(
    queue: Queue, beside: RawClient, log: Log, request_of: Callable[[str], bytes]
) -> None:
    target = fresh("/patient")
    with queue.door.half(queue.gateway) as client:
        client.send(request_of(target))
        client.half_close()
        look_around(beside)
        time.sleep(LONG)  # what is tested is that this is not too long
        assert not queue.has_a_place(beside)
        queue.server.let_go.set()
        assert client.rest().endswith(target.encode())
    log.wait_for(target, 200)


@pytest.mark.parametrize("request_of", [get, post], ids=["without a body", "with a body"])
def test_one_that_resets_frees_its_place_at_once(
    queue: Queue, beside: RawClient, log: Log, request_of: Callable[[str], bytes]
) -> None:
    target = fresh("/gone")
    with queue.door.half(queue.gateway) as client:
        client.send(request_of(target))
        look_around(beside)
        assert not queue.has_a_place(beside)
        client.reset()
        eventually(lambda: queue.has_a_place(beside), "the place to be free", AT_ONCE)
    log.wait_for(target, 499)


@pytest.mark.parametrize("way", LEAVING)
def test_one_whose_body_cannot_become_complete_frees_its_place_at_once(
    queue: Queue, beside: RawClient, log: Log, way: str
) -> None:
    target = fresh("/gone")
    with queue.door.half(queue.gateway) as client:
        client.send(post(target, MISSING))
        look_around(beside)
        assert not queue.has_a_place(beside)
        getattr(client, way)()
        eventually(lambda: queue.has_a_place(beside), "the place to be free", AT_ONCE)
    log.wait_for(target, 499)
    assert len(queue.server.arrivals) == 1


def test_one_that_closes_long_after_its_request_frees_its_place(queue: Queue, beside: RawClient, log: Log) -> None:
    target = fresh("/gone")
    with queue.door.half(queue.gateway) as client:
        client.send(get(target))
        look_around(beside)
        time.sleep(LONG)  # the rule is about this time
        assert not queue.has_a_place(beside)
        client.close()
        eventually(lambda: queue.has_a_place(beside), "the place to be free", AT_ONCE)
    log.wait_for(target, 499)


# ------------------------------------------------------------------------------------------- while the answer is awaited


@pytest.fixture(scope="module")
def holding(door: Door, log: Log, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, Holding]]:
    """A gateway before a server that holds its answers."""
    with Holding() as server:
        site = {**door.site({"app": {"servers": [server.address]}}, port=free_port()), "access_log": log.section}
        with GatewayProcess(tmp_path_factory.mktemp("holding"), site) as gateway:
            yield gateway, server


def test_an_end_at_once_stays_a_half_close_however_long_the_answer_takes(
    holding: tuple[GatewayProcess, Holding], door: Door
) -> None:
    gateway, server = holding
    target = fresh(HELD.decode())
    server.clear()
    server.let_go.clear()
    with door.beside(gateway):
        with door.half(gateway) as client:
            client.send(get(target))
            client.half_close()
            eventually(lambda: len(server.arrivals) == 1, "the request to arrive")
            time.sleep(LONG)  # what is tested is that this is not too long
            server.let_go.set()
            assert client.rest().endswith(target.encode())
        becomes_quiet(gateway)


def test_an_end_at_once_stays_a_half_close_however_long_it_takes_to_connect(
    door: Door, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ShutServer() as server:
        app = {"servers": [server.address], "timeouts": {"connect": "10s"}}
        site = door.site({"app": app}, port=free_port())
        with GatewayProcess(tmp_path_factory.mktemp("connect"), site) as gateway, door.beside(gateway):
            with door.half(gateway) as client:
                client.send(get("/patient"))
                client.half_close()
                eventually(lambda: server.asked(gateway) == 1, "the gateway to connect")
                time.sleep(LONG)  # what is tested is that this is not too long
                server.open()
                assert client.rest().endswith(b"/patient")
            becomes_quiet(gateway)


def test_an_end_right_after_a_slow_body_is_a_half_close(holding: tuple[GatewayProcess, Holding], door: Door) -> None:
    gateway, server = holding
    target = fresh(HELD.decode())
    server.clear()
    server.let_go.clear()
    with door.beside(gateway) as beside:
        with door.half(gateway) as client:
            client.send(post(target)[:-1])
            eventually(lambda: len(server.arrivals) == 1, "the head to arrive")
            time.sleep(LONG)  # what is tested is that it counts from the end of the request, not from its beginning
            client.send(post(target)[-1:])
            client.half_close()
            look_around(beside)
            server.let_go.set()
            assert client.rest().endswith(target.encode())
        becomes_quiet(gateway)


@pytest.mark.parametrize("way", LEAVING)
def test_an_end_long_after_the_request_is_that_of_a_client_that_has_gone(
    holding: tuple[GatewayProcess, Holding], door: Door, log: Log, way: str
) -> None:
    gateway, server = holding
    target = fresh(HELD.decode())
    server.clear()
    server.let_go.clear()
    with door.beside(gateway):
        with door.half(gateway) as client:
            client.send(get(target))
            eventually(lambda: len(server.arrivals) == 1, "the request to arrive")
            time.sleep(LONG)  # the rule is about this time
            getattr(client, way)()
            becomes_quiet(gateway, AT_ONCE)
        server.let_go.set()
    log.wait_for(target, 499)


# ------------------------------------------------------------------------------------------ behind an upload that stalls


def is_broken(connection: socket.socket) -> bool:
    """Whether the other side has reset the connection, though nothing is read from it (tcpi_state of tcp(7))."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE


def send_until_it_stalls(client: HalfClient) -> None:
    """Send until the gateway reads no more; all that was sent is with its kernel, and so would be an end."""
    looks = 0
    while looks < 10:
        if unread(client.socket) < 10_000:
            client.send(bytes(40_000))
            looks = 0
        else:
            time.sleep(0.02)
            looks += 1
        eventually(lambda: unacknowledged(client.socket) == 0, "it to be acknowledged")


@pytest.mark.parametrize("way", ["half_close_and_fin", "close"])
def test_one_that_ends_behind_data_that_is_not_read_is_noticed(
    door: Door, log: Log, tmp_path_factory: pytest.TempPathFactory, way: str
) -> None:
    """Its server does not read, so the gateway does not; the end lies behind what is not read, and is seen all the same."""
    target = fresh("/gone")
    let_go = threading.Event()
    servers: list[socket.socket] = []

    def script(connection: socket.socket, _: bytes) -> None:
        servers.append(connection)
        assert let_go.wait(LIMIT)

    with ExitStack() as stack:
        server = stack.enter_context(RawServer(script, receive_buffer=4096))
        stack.callback(let_go.set)
        app = {"servers": [server.address], "timeouts": {"response": "30s"}}
        site = {**door.site({"app": app}, port=free_port()), "access_log": log.section}
        gateway = stack.enter_context(GatewayProcess(tmp_path_factory.mktemp("stalled"), site))
        stack.enter_context(door.beside(gateway))
        client = stack.enter_context(door.half(gateway))
        client.send(post(target, 50_000_000))
        eventually(lambda: len(servers) == 1, "the request to arrive")
        send_until_it_stalls(client)
        getattr(client, way)()
        eventually(lambda: log.statuses(target) == [499], "it to be noticed", 5.0)
        eventually(lambda: is_broken(servers[0]), "the server to be told by a reset", 1.0)
        with contextlib.closing(client):
            becomes_quiet(gateway)
