"""Bodies in both directions: framing, streaming, back-pressure."""

import contextlib
import hashlib
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support import hardened
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import needs
from tests.support.raw import RawClient
from tests.support.raw_server import RawServer, replies
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
MIB = 1 << 20


def memory(gateway: GatewayProcess) -> int:
    """Resident bytes of the one worker, of a gateway of the test's own: another has memory left of tests before."""
    return int(psutil.Process(gateway.workers()[0]).memory_info().rss)


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 4095, 4096, 4097, 65536, 131072, 3_000_000])
@pytest.mark.parametrize("kind", ["bytes", "chunked", "close-delimited"])
def test_downloads_of_every_framing(lend_gateway: Starter, start_servers: Servers, kind: str, size: int) -> None:
    gateway = lend_gateway(site(start_servers("app1")))
    with RawClient(gateway.port) as client:
        for _ in range(2):
            body = client.get(f"/{kind}/{size}").body
            assert len(body) == size
            assert body[:26] == b"abcdefghijklmnopqrstuvwxyz"[:size]


def test_uploads_of_every_framing(lend_gateway: Starter, start_servers: Servers) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(site([server]))
    with RawClient(gateway.port) as client:
        for method in (b"POST", b"PUT", b"OPTIONS", b"DELETE", b"GET"):
            start = method + b" /echo HTTP/1.1\r\nHost: a\r\n"
            plain = client.ask(start + b"Content-Length: 05\r\n\r\nhello")
            assert plain.body.endswith(b"\r\n\r\nhello")
            assert b"\r\nContent-Length: 5\r\n" in plain.body
            chunked = client.ask(
                start
                + b"Transfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n00002\r\nde\r\n0\r\nX-Mine: 1\r\nContent-Length: 9\r\n\r\n"
            )
            assert chunked.body.endswith(b"\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Mine: 1\r\n\r\n")
            assert b"ext" not in chunked.body
    assert server.count == 10


def test_large_upload_arrives_whole(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1")))
    body = bytes(range(256)) * 40_000
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[i : i + 77_777] for i in range(0, len(body), 77_777))
    )
    with RawClient(gateway.port) as client:
        assert client.ask(
            b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        ).body == b"%d" % len(body)
        answer = client.ask(
            b"POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        )
        assert answer.body == b"%d" % len(body)


def test_head_and_bodiless_statuses(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1")))
    with RawClient(gateway.port) as client:
        for path in ("/bytes/1000", "/chunked/1000", "/status/204", "/status/304"):
            client.send(f"HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert client.response("HEAD").body == b""
        assert client.get("/status/204").header("Content-Length") is None
        assert client.get("/status/304").body == b""
        assert len(client.get("/bytes/10").body) == 10


def test_interim_responses_pass_to_clients_that_know_them(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1")))
    with RawClient(gateway.port) as client:
        client.send(b"GET /interim/5 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read(b"\r\n\r\n").startswith(b"HTTP/1.1 103 ")
        assert client.response().body == b"abcde"
    with RawClient(gateway.port) as client:
        client.send(b"GET /interim/5 HTTP/1.0\r\n\r\n")
        assert client.read(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_client_that_waits_for_100_gets_it(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1")))
    with RawClient(gateway.port) as client:
        for _ in range(2):
            client.send(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert client.read(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert client.ask(b"hello").body == b"5"


def test_an_early_answer_ends_both_connections(lend_gateway: Starter, start_servers: Servers) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(site([server]))
    before = server.connections
    with RawClient(gateway.port) as client:
        client.send(b"POST /refuse/413 HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"x" * 1000)
        answer = client.response()
        assert (answer.status, answer.header("Connection")) == (413, "close")
        assert client.is_closed()
    with RawClient(gateway.port) as client:
        assert client.get("/bytes/3").body == b"abc"
    assert server.connections - before == 2


def test_an_answer_before_the_end_of_the_upload_affects_no_other_client(lend_gateway: Starter) -> None:
    """The server answers with keep-alive and never reads: what follows on its connection would be the rest of a body."""
    with RawServer(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", keep=True)) as server:
        gateway = lend_gateway({**site([]), "backends": {"app": {"servers": [server.address]}}})
        with RawClient(gateway.port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"x" * 1000)
            assert client.response().body == b"ok"
        with RawClient(gateway.port) as client:
            assert client.get("/next").body == b"ok"
        assert len(server.heads) == 2
        assert server.heads[1].startswith(b"GET /next HTTP/1.1\r\n")


def test_a_slow_reader_stops_the_server_not_the_gateway(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(site(start_servers("app1")))
    with RawClient(gateway.port) as client:
        client.get("/bytes/10")
        before = memory(gateway)
        client.send(b"GET /bytes/200000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read(b"\r\n\r\n")
        sent = psutil.Process(gateway.workers()[0]).io_counters()

        def quiet() -> bool:
            nonlocal sent
            last, sent = sent, psutil.Process(gateway.workers()[0]).io_counters()
            time.sleep(0.1)
            return last == sent

        eventually(quiet, "the worker to stop reading")
        assert memory(gateway) - before < 2 * MIB + hardened.KEPT
        # Meanwhile others are served.
        with RawClient(gateway.port) as other:
            assert len(other.get("/bytes/1000").body) == 1000


@needs("curl")
@pytest.mark.timeout(240)
def test_five_gib_to_a_slow_server_leave_the_memory_flat(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    size = 5 * 1024 * MIB
    description = site(start_servers("app1"))
    description["frontends"][0]["limits"] = {"body_bytes": "6GiB"}
    gateway = start_gateway(description)
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(size)  # a file of holes: no disk, no time
    with RawClient(gateway.port) as client:
        client.get("/bytes/10")
    before = highest = memory(gateway)
    # The server reads 1.25 GiB a second at most: less than client and gateway could send.
    upload = subprocess.Popen(
        ["curl", "-sS", "-T", str(source), "-X", "POST", gateway.url("/sink?rate=1342177280")],
        stdout=subprocess.PIPE,
    )
    try:
        while upload.poll() is None:
            highest = max(highest, memory(gateway))
            time.sleep(0.02)
        output, _ = upload.communicate(timeout=30)
    finally:
        upload.kill()
        upload.wait()
    assert output == b"%d" % size
    assert highest - before < 4 * MIB + hardened.KEPT


def test_a_client_that_leaves_takes_its_request_along(lend_gateway: Starter) -> None:
    gone: list[bytes] = []
    with RawServer(lambda connection, _: gone.append(connection.recv(1))) as server:
        gateway = lend_gateway({**site([]), "backends": {"app": {"servers": [server.address]}}})
        with RawClient(gateway.port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
            eventually(lambda: len(server.heads) == 1, "the request to arrive")
        eventually(lambda: gone == [b""], "the server's connection to close")


@pytest.mark.parametrize("given_up_by", ["client", "gateway"])
def test_a_request_without_a_client_is_cancelled_at_a_server_that_does_not_read(
    lend_gateway: Starter, given_up_by: str
) -> None:
    """A close would leave a send buffer in the kernel for as long as the server keeps its window shut."""
    left, seen = threading.Event(), []

    def script(connection: socket.socket, _: bytes) -> None:
        assert left.wait(60)  # longer than all that is waited for below
        try:
            while connection.recv(65536):
                pass
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")

    with RawServer(script, receive_buffer=65536) as server:
        timeouts = {"response": "1s"} if given_up_by == "gateway" else {}
        gateway = lend_gateway({**site([]), "backends": {"app": {"servers": [server.address], "timeouts": timeouts}}})
        worker = psutil.Process(gateway.workers()[0])

        def busy() -> bool:
            return any(peer.raddr for peer in worker.net_connections())

        with RawClient(gateway.port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
            # Until neither side takes more: the server's window is shut, and so is everything before it.
            client.socket.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):
                while True:
                    client.socket.send(bytes(65536))
            # A close would be said after all that was sent, when the other side reads no more.
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if given_up_by == "gateway":
                eventually(lambda: not busy(), "the gateway to give up")
        eventually(lambda: not busy(), "the gateway to let both go")
        left.set()
        eventually(lambda: seen == ["reset"], "the server to see the reset")


def test_a_client_that_closes_while_it_waits_has_left(lend_gateway: Starter) -> None:
    """A FIN a second after the request is no half-close of a script: no client waits for the answer any more."""
    gone: list[bytes] = []
    with RawServer(lambda connection, _: gone.append(connection.recv(1))) as server:
        gateway = lend_gateway({**site([]), "backends": {"app": {"servers": [server.address]}}})
        with RawClient(gateway.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            eventually(lambda: len(server.heads) == 1, "the request to arrive")
            time.sleep(1.1)
            assert gone == []
        eventually(lambda: gone == [b""], "the server's connection to close")


def test_a_reader_that_stalls_is_cut_off(lend_gateway: Starter) -> None:
    """The server is released, too: nothing waits without a limit for a client that does not read."""
    gone = []

    def script(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        try:
            while True:
                connection.sendall(bytes(65536))
        except OSError:
            gone.append(True)

    with RawServer(script) as server:
        description = {**site([]), "backends": {"app": {"servers": [server.address]}}}
        description["frontends"][0]["limits"] = {"idle_timeout": "500ms"}
        gateway = lend_gateway(description)
        with RawClient(gateway.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read(b"\r\n\r\n")
            eventually(lambda: gone == [True], "the server's connection to end")
            assert len(client.read()) < 100_000_000


def test_a_client_may_close_its_half_early(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1")))
    with RawClient(gateway.port) as client:
        client.send(b"GET /delay/0.2 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.end()
        assert client.response().body == b"app1"
        assert client.is_closed()


def slowly(connection: socket.socket, size: int) -> str:
    """Take `size` bytes in pieces of all sizes, some late; their digest."""
    digest = hashlib.sha256()
    taken = 0
    while taken < size:
        data = connection.recv(min(size - taken, 1 + taken * 7919 % 200_000))
        assert data
        taken += len(data)
        digest.update(data)
        if taken % 5 == 0:
            time.sleep(0.005)
    return digest.hexdigest()


def test_a_large_body_is_the_same_after_a_slow_way(lend_gateway: Starter) -> None:
    """Large bodies are moved from socket to socket; what the slower one does not take must stay in its place."""
    body = random.Random(1).randbytes(20_000_000)
    came = []

    def script(connection: socket.socket, head: bytes) -> None:
        start = head.partition(b"\r\n\r\n")[2]
        rest = slowly(connection, len(body) - len(start)) if not start else None
        assert rest is not None  # the head comes alone: the client waits before it sends the body
        came.append(rest)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        connection.recv(1)

    with RawServer(script) as server:
        gateway = lend_gateway({**site([]), "backends": {"app": {"servers": [server.address]}}})
        with RawClient(gateway.port) as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
            eventually(lambda: len(server.heads) == 1, "the head to arrive")
            client.send(body)
            head = b""
            while not head.endswith(b"\r\n\r\n"):  # and not a byte more
                head += client.socket.recv(1)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            digest = hashlib.sha256(body).hexdigest()
            assert came == [digest]
            assert slowly(client.socket, len(body)) == digest
