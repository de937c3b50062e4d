"""Bodies that are there before their request has a server: they arrive behind their head, and as nothing else.

The servers here take whatever comes for requests: a body that went out before its head, or without it, would be one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.observe import dechunk
from tests.conformance.recorder import HELD, Holding, Recorder
from tests.support.gateway_process import GatewayProcess, Site
from tests.support.half_client import HalfClient
from tests.support.kernel import all_read
from tests.support.lives import Door, Log, ShutServer, becomes_quiet
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: internal\r\n\r\n"
BODY = (SMUGGLED * 3000)[:100_000]  # a request at whatever byte a server begins to read, and more than is read ahead


@dataclass(frozen=True, slots=True)
class Upload:
    """A POST of BODY to `target`; `framing` is a header line, `rest` the body as it is sent.

    `at_once`: head and body in one go; else the body comes when the head has been read.
    """

    target: bytes
    framing: bytes
    rest: bytes
    at_once: bool

    @property
    def line(self) -> bytes:
        return b"POST " + self.target + b" HTTP/1.1"

    def send(self, client: HalfClient) -> None:
        """Send all of it; some may still be in the client's kernel afterwards."""
        head = self.line + b"\r\nHost: a\r\n" + self.framing + b"\r\n\r\n"
        if self.at_once:
            return client.send(head + self.rest)
        client.send(head)
        eventually(lambda: all_read(client.socket), "the head to be read")
        return client.send(self.rest)


def uploads() -> Iterator[Upload]:
    """Yield every way to send it."""
    length = b"Content-Length: %d" % len(BODY)
    chunked = b"Transfer-Encoding: chunked"
    large = b"%x\r\n%b\r\n" % (len(BODY), BODY)
    small = b"".join(b"3e8\r\n%b\r\n" % BODY[at : at + 1000] for at in range(0, len(BODY), 1000))
    for how in (True, False):
        yield Upload(b"/length/%d" % how, length, BODY, how)
        yield Upload(b"/chunk/%d" % how, chunked, large + b"0\r\n\r\n", how)
        yield Upload(b"/chunks/%d" % how, chunked, small + b"0\r\n\r\n", how)


UPLOADS = list(uploads())


def check(recorder: Recorder, sent: list[Upload]) -> None:
    """Each upload has arrived once and complete, and nothing has come of any body."""
    arrived = {arrival.line: arrival for arrival in recorder.arrivals}
    assert sorted(arrival.line for arrival in recorder.arrivals) == sorted(upload.line for upload in sent)
    for upload in sent:
        arrival = arrived[upload.line]
        assert upload.framing in arrival.fields
        body, whole, more = dechunk(arrival.body) if b"chunked" in upload.framing else (arrival.body, True, b"")
        assert arrival.whole
        assert (body == BODY, whole, more) == (True, True, b"")


def check_answer(client: HalfClient, upload: Upload) -> None:
    assert client.read(b"POST " + upload.target).startswith(b"HTTP/1.1 200 OK\r\n")


def test_while_they_wait_in_a_queue(door: Door, lend_gateway: Starter) -> None:
    with Holding() as recorder, ExitStack() as stack:
        app = {"servers": [{"address": recorder.address, "max_connections": 1}], "queue": {"timeout": "10s"}}
        gateway = lend_gateway(door.site({"app": app}, port=free_port()))
        stack.enter_context(door.beside(gateway))
        first = stack.enter_context(door.raw(gateway))
        first.send(b"GET " + HELD + b"1 HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: len(recorder.arrivals) == 1, "the first to arrive")
        clients = [stack.enter_context(door.half(gateway)) for _ in UPLOADS]
        for client, upload in zip(clients, UPLOADS, strict=True):
            upload.send(client)
        assert len(recorder.arrivals) == 1
        recorder.clear()
        recorder.let_go.set()
        assert first.response().body == b"GET " + HELD + b"1"
        for client, upload in zip(clients, UPLOADS, strict=True):
            check_answer(client, upload)
        check(recorder, UPLOADS)


def test_while_their_server_is_being_connected_to(door: Door, lend_gateway: Starter) -> None:
    with ShutServer() as server, ExitStack() as stack:
        app = {"servers": [server.address], "timeouts": {"connect": "10s"}}
        gateway = lend_gateway(door.site({"app": app}, port=free_port()))
        stack.enter_context(door.beside(gateway))
        clients = [stack.enter_context(door.half(gateway)) for _ in UPLOADS]
        for client, upload in zip(clients, UPLOADS, strict=True):
            upload.send(client)
        eventually(lambda: server.asked(gateway) == len(UPLOADS), "the gateway to connect")
        server.open()
        for client, upload in zip(clients, UPLOADS, strict=True):
            check_answer(client, upload)
        check(server, UPLOADS)


def test_those_that_cannot_become_complete_any_more(door: Door, lend_gateway: Starter, tmp_path: Path) -> None:
    """Their clients end or leave while the server is being connected to: it gets none of them as a whole request."""
    log = Log(tmp_path)
    ways = (HalfClient.half_close_and_fin, HalfClient.fin, HalfClient.close, HalfClient.reset)
    with ShutServer() as server, ExitStack() as stack:
        app = {"servers": [server.address], "timeouts": {"connect": "10s"}}
        gateway = lend_gateway({**door.site({"app": app}, port=free_port()), "access_log": log.section})
        stack.enter_context(door.beside(gateway))
        clients = [stack.enter_context(door.half(gateway)) for _ in ways]
        for client in clients:
            client.send(b"POST /short HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        eventually(lambda: server.asked(gateway) == len(ways), "the gateway to connect")
        for client, leave in zip(clients, ways, strict=True):
            client.send(b"x" * 100)
            leave(client)
        server.open()
        log.wait_for("/short", *[499] * len(ways))
        becomes_quiet(gateway)
        assert not any(arrival.whole for arrival in server.arrivals)
