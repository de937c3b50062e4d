"""Answers over TLS that a server breaks off: at every byte of the handshake and of the answer, none looks complete."""

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.raw_server import LIMIT, Acceptor

BODY = b"0123456789" * 2
MEASURED = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 20\r\n\r\n" + BODY
CHUNKED = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n" + BODY + b"\r\n0\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
LASTING = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + BODY
WHOLE = 1 << 20


@dataclass(frozen=True, slots=True)
class Sent:
    """What a connection of the server has sent: whether an answer was complete, its bytes, those of its handshake.

    An answer without a length is complete with the goodbye behind it.
    """

    complete: bool
    total: int
    handshake: int


class Cutter(Acceptor):
    """A TLS server that sends `answer` on each connection, but of all its bytes only the first `cut`; then it closes.

    The last bytes that it sends, and its end, arrive together.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        context.num_tickets = 0
        self._context = context
        self.answer = MEASURED
        self.cut = WHOLE
        self.told = queue.SimpleQueue[Sent]()
        """What each connection has sent, once it has sent all."""

    def serve(self, connection: socket.socket, number: int) -> None:  # noqa: ARG002
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        answer, cut, sent, shaken, complete = self.answer, self.cut, 0, 0, False

        def send() -> bool:
            """Whether more may be sent."""
            nonlocal sent
            data = outgoing.read()
            part = data[: max(0, cut - sent)]
            sent += len(data)
            with suppress(OSError):  # it has its answer, and has left before the goodbye
                connection.send(part, socket.MSG_MORE if sent > cut else 0)
            return sent <= cut

        def until_done(step: Callable[[], object]) -> bool:
            while True:
                try:
                    step()
                    return send()
                except ssl.SSLWantReadError:
                    if not send():
                        return False
                    data = connection.recv(1 << 16)
                    if not data:
                        return False
                    incoming.write(data)

        if until_done(tls.do_handshake) and until_done(lambda: tls.read(1 << 16)):
            shaken = sent
            tls.write(answer)
            if send():
                complete = answer is not ENDLESS
                with suppress(ssl.SSLWantReadError):
                    tls.unwrap()
                complete = send() or complete
        self.told.put(Sent(complete, sent, shaken))
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass


class Leaver(Acceptor):
    """A TLS server that answers once on each connection; when told to `leave`, it ends it within a record."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context
        self.leave = threading.Event()
        self.closed = threading.Event()
        """The other side has closed a connection after that."""

    def serve(self, connection: socket.socket, number: int) -> None:  # noqa: ARG002
        with self._context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1 << 16)
            tls.sendall(LASTING)
            self.leave.wait(LIMIT)
            plain = socket.socket(fileno=tls.detach())
        with plain:
            plain.settimeout(LIMIT)
            plain.send(b"\x17\x03\x03", socket.MSG_MORE)  # arrives together with the end
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(1 << 16):
                pass
            self.closed.set()


def start(directory: Path, authority: Authority, server: Acceptor) -> GatewayProcess:
    """A gateway before it."""
    backend: dict[str, Any] = {
        "servers": [server.address],
        "tls": {"ca": str(authority.ca)},
        "retries": {"attempts": 0},
    }
    return GatewayProcess(directory, {**site([]), "backends": {"app": backend}})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    pair = authority.issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


@pytest.fixture(scope="module")
def stage(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, context: ssl.SSLContext
) -> Iterator[tuple[GatewayProcess, Cutter]]:
    with Cutter(context) as server, start(tmp_path_factory.mktemp("cuts"), authority, server) as gateway:
        yield gateway, server


def ask(gateway: GatewayProcess) -> bytes:
    """All that a client gets for one request."""
    with RawClient(gateway.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        with suppress(ConnectionResetError):
            return client.read()
        return b""


def is_whole(answer: bytes) -> bool:
    """Whether a client would take it for the server's answer, complete."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        return False
    if b"\r\nTransfer-Encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    return len(body) == len(BODY)


@pytest.mark.parametrize("answer", [MEASURED, CHUNKED, ENDLESS], ids=["length", "chunked", "until the end"])
def test_no_cut_answer_looks_complete(stage: tuple[GatewayProcess, Cutter], answer: bytes) -> None:
    gateway, server = stage
    server.answer, server.cut = answer, WHOLE
    assert is_whole(ask(gateway))
    whole = server.told.get(timeout=LIMIT)
    # Once is enough for the handshake. A signature is a few bytes longer or shorter each time.
    begin = 0 if answer is MEASURED else whole.handshake - 10
    outcomes = set()
    for cut in range(begin, whole.total + 10):
        server.cut = cut
        got = ask(gateway)
        told = server.told.get(timeout=LIMIT)
        assert is_whole(got) == told.complete, (cut, told, got)
        outcomes.add(got[9:12] if told.complete or got[:12] != b"HTTP/1.1 200" else b"cut")
    assert outcomes == ({b"502", b"cut", b"200"} if answer is ENDLESS else {b"502", b"200"})


def test_an_idle_connection_that_ends_within_a_record_is_not_used_again(
    tmp_path: Path, authority: Authority, context: ssl.SSLContext
) -> None:
    with Leaver(context) as server, start(tmp_path, authority, server) as gateway:
        assert is_whole(ask(gateway))
        server.leave.set()
        assert server.closed.wait(LIMIT / 2), "the gateway keeps a connection that has ended"
        assert is_whole(ask(gateway))
        assert server.connections == 2
