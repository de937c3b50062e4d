"""WebSockets to servers that are spoken to in HTTP/2: extended CONNECT (RFC 8441), else HTTP/1.1, else an outcome's name."""

import base64
import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from h2.settings import SettingCodes
from websockets.sync.client import connect as connect_websocket

from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.http2_client import Answer, Http2Client
from tests.support.http2_server import Call, Ended, Http2Server, Peer, Script
from tests.support.node_server import NodeServer
from tests.support.programs import needs
from tests.support.raw import RawClient
from tests.support.raw_server import RawServer
from tests.support.tls_server import TlsServer
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Peers = Callable[..., Http2Server]

CANCEL = 8
PROOF = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(bytes(16))
ACCEPT = base64.b64encode(hashlib.sha1(KEY + PROOF).digest()).decode()
TAKES = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
LARGE = bytes(range(256)) * 4000  # more than all windows and buffers together hold
OPENING = (
    b"GET /chat?a=b HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: chat\r\n\r\n" % KEY
)


def echoes(peer: Peer, call: Call, *fields: tuple[str, str]) -> None:
    """Take a WebSocket: send back what comes, and say goodbye behind it."""
    peer.head(call, 200, *fields)
    at = 0
    while not call.ended or at < len(call.body):
        peer.until(lambda: call.ended or len(call.body) > at or call.reset is not None)  # noqa: B023
        if call.reset is not None:
            return
        piece = call.body[at:]
        at += len(piece)
        peer.body(call, piece, end=False)
    peer.body(call, b"bye")


def takes(peer: Peer) -> None:
    """Echo on WebSockets, one after the other, and answer other requests."""
    done: set[int] = set()
    with contextlib.suppress(Ended):
        while True:
            for call in list(peer.calls.values()):
                if call.stream in done:
                    continue
                done.add(call.stream)
                if call.header(":protocol") == "websocket":
                    echoes(peer, call, ("sec-websocket-protocol", "chat"), ("sec-websocket-accept", "nothing"))
                else:
                    peer.answer(call, b"ok")
            peer.read()


def accepts(connection: socket.socket, head: bytes) -> None:
    """Take a WebSocket in HTTP/1.1, and echo."""
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))[19:]
    proof = base64.b64encode(hashlib.sha1(key + PROOF).digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % proof
    )
    while data := connection.recv(65536):
        connection.sendall(data)


@pytest.fixture
def peers() -> Iterator[Peers]:
    """Start servers that speak HTTP/2 and take WebSockets; what they found wrong with the gateway fails the test."""
    with ExitStack() as stack:
        started: list[Http2Server] = []

        def start(script: Script = takes, **more: Any) -> Http2Server:
            started.append(stack.enter_context(Http2Server(script, **({"settings": TAKES} | more))))
            return started[-1]

        yield start
        assert [server.broken for server in started if server.broken] == []


def description(*servers: Http2Server | RawServer | TlsServer | NodeServer, **backend: Any) -> dict[str, Any]:
    made = site(servers, h2=True, **backend)
    made["frontends"][0]["http2"] = True
    made["access_log"] = {"path": "-", "format": "json"}
    return made


def opened(client: Http2Client, path: str = "/chat?a=b") -> tuple[int, Answer]:
    """Open a WebSocket over HTTP/2: its stream, and what has come for that."""
    stream = client.send_head(
        [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "shop.example"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat"),
        ],
        end=False,
    )
    answer = client.answers[stream]
    client.until(lambda: answer.status != 0 or answer.reset is not None, "an answer")
    return stream, answer


def logged(gateway: GatewayProcess, outcome: str, count: int = 1) -> list[str]:
    """Wait for that many lines with that outcome in the access log; return them."""
    wanted = f'"outcome":"{outcome}"'
    eventually(lambda: gateway.output.count(wanted) >= count, f"{outcome} in the log, {count} times")
    return [line for line in gateway.output.splitlines() if wanted in line]


def test_clients_of_both_protocols_get_a_stream(lend_gateway: Starter, peers: Peers) -> None:
    server = peers()
    gateway = lend_gateway(description(server))
    with RawClient(gateway.port) as old:
        assert old.get("/").body == b"ok"  # the connection is there, and known to take WebSockets
        old.send(OPENING)
        head = old.read(b"\r\n\r\n").decode()
        assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
        assert f"\r\nSec-WebSocket-Accept: {ACCEPT}\r\n" in head
        assert head.lower().count("sec-websocket-accept") == 1
        assert "\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" in head
        assert "\r\nsec-websocket-protocol: chat\r\n" in head
        assert "content-length" not in head.lower()
        old.send(LARGE)
        old.end()
        assert old.read() == LARGE + b"bye"
    with Http2Client(gateway.port) as client:
        stream, answer = opened(client)
        assert (answer.status, answer.header("sec-websocket-protocol")) == (200, "chat")
        assert answer.header("sec-websocket-accept") is None
        client.send_body(stream, LARGE)
        assert client.wait(stream).body == LARGE + b"bye"
        assert (answer.ended, answer.reset) == (True, None)
    assert server.connections == 1
    for call in server.calls[1:]:
        assert call.fields[:5] == [
            (":method", "CONNECT"),
            (":scheme", "http"),
            (":path", "/chat?a=b"),
            (":authority", "shop.example"),
            (":protocol", "websocket"),
        ]
        names = {name for name, _ in call.fields}
        assert not {"connection", "upgrade", "sec-websocket-key", "host"} & names
        assert call.header("sec-websocket-version") == "13"
        assert call.header("x-forwarded-for") == "127.0.0.1"
    old_line, new_line = [line for line in logged(gateway, "ok", 3) if '"status":101' in line]
    for line in (old_line, new_line):
        assert '"method":"GET"' in line
        assert f'"bytes":{len(LARGE) + 3}' in line


def test_the_first_request_of_all_may_be_a_websocket(lend_gateway: Starter, peers: Peers) -> None:
    gateway = lend_gateway(description(peers()))
    with RawClient(gateway.port) as old:
        old.send(OPENING + b"ahead")  # before the server has agreed
        assert old.read(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        old.end()
        assert old.read() == b"aheadbye"


def test_what_a_server_sends_may_come_byte_by_byte(lend_gateway: Starter, peers: Peers) -> None:
    def script(peer: Peer) -> None:
        def flush() -> None:
            for byte in peer.connection.data_to_send():
                peer.socket.sendall(bytes((byte,)))

        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.flush = flush  # type: ignore[method-assign]
        takes(peer)

    gateway = lend_gateway(description(peers(script)))
    with RawClient(gateway.port) as old:
        assert old.get("/").body == b"ok"
        old.send(OPENING + b"ahead")
        assert old.read(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        old.end()
        assert old.read() == b"aheadbye"


def test_an_agreement_that_is_cut_anywhere_behind_a_good_answer(lend_gateway: Starter, peers: Peers) -> None:
    """The client gets 502, or the WebSocket with what has come on it: never bytes of frames."""
    cuts = iter(range(1000))
    done = threading.Event()

    def script(peer: Peer) -> None:
        peer.answer(peer.first()[0], b"ok")
        peer.until(lambda: len(peer.calls) == 2)
        call = list(peer.calls.values())[1]
        sent = peer.flush
        peer.flush = lambda: None  # type: ignore[method-assign]
        peer.head(call, 200)
        peer.body(call, b"hello", end=False)
        peer.flush = sent  # type: ignore[method-assign]
        data, cut = peer.connection.data_to_send(), next(cuts)
        if cut >= len(data):
            done.set()
        peer.socket.sendall(data[:cut])
        raise Ended

    gateway = lend_gateway(description(peers(script), retries={"attempts": 0}))
    found = set()
    while not done.is_set():
        with RawClient(gateway.port) as old:
            assert old.get("/").body == b"ok"
            old.send(OPENING)
            status = int(old.read(b"\r\n\r\n").split()[1])
            found.add((status, old.read() if status == 101 else b""))
    assert found == {(502, b""), *((101, b"hello"[:length]) for length in range(6))}


def test_a_server_may_end_first(lend_gateway: Starter, peers: Peers) -> None:
    heard: list[bytes] = []

    def talks(peer: Peer) -> None:
        (call,) = peer.first()
        peer.head(call, 200)
        peer.body(call, LARGE)
        peer.until(lambda: call.ended)
        heard.append(call.body)

    gateway = lend_gateway(description(peers(talks)))
    with RawClient(gateway.port) as old:
        old.send(OPENING)
        text = old.read()
        assert text.partition(b"\r\n\r\n")[2] == LARGE
        old.send(LARGE)
        old.end()
        eventually(lambda: heard == [LARGE], "all to arrive at the server")
    logged(gateway, "ok")


def test_resets_pass_in_both_directions(lend_gateway: Starter, peers: Peers) -> None:
    resets: list[int | None] = []

    def script(peer: Peer) -> None:
        for number in (1, 2):
            call = peer.first(number)[-1]
            peer.head(call, 200)
            peer.until(lambda: call.body or call.reset is not None)  # noqa: B023
            if call.body == b"r":
                peer.connection.reset_stream(call.stream, CANCEL)
                peer.flush()
            else:
                peer.until(lambda: call.reset is not None)  # noqa: B023
                resets.append(call.reset)
        with contextlib.suppress(Ended):
            while True:
                peer.read()

    gateway = lend_gateway(description(peers(script)))
    with Http2Client(gateway.port) as client:
        stream, _ = opened(client)
        client.send_body(stream, b"r", end=False)
        assert client.wait(stream).reset == CANCEL
        logged(gateway, "tunnel_cut_by_server")
    with RawClient(gateway.port) as old:
        old.send(OPENING)
        old.read(b"\r\n\r\n")
        old.reset()
    eventually(lambda: resets == [CANCEL], "the server to see the reset")
    logged(gateway, "tunnel_cut_by_client")


def test_a_side_that_does_not_read_stops_the_other(lend_gateway: Starter, peers: Peers) -> None:
    sent: list[int] = [0]

    def floods(peer: Peer) -> None:
        (call,) = peer.first()
        peer.head(call, 200)
        while call.reset is None:
            room = min(peer.connection.local_flow_control_window(call.stream), 16384)
            if room:
                peer.connection.send_data(call.stream, bytes(room))
                peer.flush()
                sent[0] += room
            else:
                peer.read()

    server = peers(floods)
    gateway = lend_gateway(description(server))
    with Http2Client(gateway.port, window=1000, takes=False) as client:
        stream, answer = opened(client)
        client.until(lambda: len(answer.body) == 1000, "its window to be full")
        eventually(lambda: sent[0] >= 131_072, "the window of the stream to be used up")
        client.connection.increment_flow_control_window(5000, stream)
        client.flush()
        client.until(lambda: len(answer.body) == 6000, "what was let in")
        assert sent[0] < 200_000
        client.connection.reset_stream(stream, CANCEL)
        client.flush()
        eventually(lambda: server.calls[0].reset == CANCEL, "the reset")


def test_other_answers_open_no_tunnel(lend_gateway: Starter, peers: Peers) -> None:
    def refuses(peer: Peer) -> None:
        done = 0
        with contextlib.suppress(Ended):
            while True:
                for call in list(peer.calls.values())[done:]:
                    done += 1
                    if call.path == "/broken":
                        peer.head(call, 200)
                        peer.connection.send_headers(call.stream, [("a", "b")], end_stream=True)
                        peer.flush()
                    else:
                        peer.answer(call, b"no", status=403)
                peer.read()

    server = peers(refuses)
    gateway = lend_gateway(description(server))
    with Http2Client(gateway.port) as client, RawClient(gateway.port) as old:
        stream, answer = opened(client)
        assert (client.wait(stream).body, answer.status) == (b"no", 403)
        assert (old.ask(OPENING).status, old.get("/").status) == (403, 403)
        stream, answer = opened(client, "/broken")
        assert client.wait(stream).reset == CANCEL
    logged(gateway, "tunnel_cut_by_server")
    eventually(lambda: all(call.reset in {None, CANCEL, 1} for call in server.calls), "resets")
    assert server.connections == 1


def test_without_its_key_it_is_a_request_like_any_other(lend_gateway: Starter, peers: Peers) -> None:
    server = peers()
    gateway = lend_gateway(description(server))
    with RawClient(gateway.port) as old:
        assert old.ask(OPENING.replace(b"Sec-WebSocket-Key", b"X-Key")).body == b"ok"
    assert server.calls[0].header(":method") == "GET"


def test_a_server_in_clear_text_that_takes_none_has_an_outcome(lend_gateway: Starter, peers: Peers) -> None:
    server = peers(settings={})
    gateway = lend_gateway(description(server, outlier={"errors": 1}))
    with Http2Client(gateway.port) as client, RawClient(gateway.port) as old:
        for _ in range(2):  # while the connection is opened, and over it
            stream, _ = opened(client)
            assert client.wait(stream).status == 502
            assert old.ask(OPENING).status == 502
            assert old.get("/").body == b"ok"  # nothing is ejected
    lines = logged(gateway, "websocket_not_spoken", 4)
    assert all('"side":"gateway"' in line for line in lines)
    gateway.wait_for_log("websocket_not_spoken: the server speaks HTTP/2 only")
    assert [call.header(":method") for call in server.calls] == ["GET", "GET"]
    (backend,) = gateway.status()["backends"]
    assert sum(one["failures"] for one in backend["servers"]) == 0


def test_another_server_takes_what_one_does_not(lend_gateway: Starter, peers: Peers) -> None:
    without, able = peers(settings={}, name="without"), peers(name="able")
    gateway = lend_gateway(description(without, able, balance="round-robin"))
    for _ in range(3):
        with RawClient(gateway.port) as old:
            old.send(OPENING)
            assert old.read(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
            old.end()
            assert old.read() == b"bye"
    assert not without.calls
    assert len(able.calls) == 3


def test_over_tls_it_goes_by_http_1(lend_gateway: Starter, authority: Authority) -> None:
    """A server that offers both protocols, and takes no WebSockets in the newer one."""
    context = authority.server_context(authority.issue("127.0.0.1"))
    agreed: list[str | None] = []

    def both(connection: socket.socket, head: bytes) -> None:
        accepts(connection, head)

    class Both(Http2Server):
        def serve(self, connection: socket.socket, number: int) -> None:
            secure = context.wrap_socket(connection, server_side=True)
            self._sockets[number - 1] = secure
            agreed.append(secure.selected_alpn_protocol())
            with contextlib.closing(secure):
                if agreed[-1] == "h2":
                    peer = Peer(secure, {})
                    with contextlib.suppress(Ended):
                        takes(peer)
                else:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += secure.recv(65536)
                    both(secure, head)

    context.set_alpn_protocols(["h2", "http/1.1"])
    with Both() as server:
        gateway = lend_gateway(description(server, tls={"ca": str(authority.ca)}))
        with RawClient(gateway.port) as old, Http2Client(gateway.port) as client:
            old.send(OPENING)  # the first request: what the server takes is not known yet
            assert old.read(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
            old.send(b"hello")
            assert old.read(b"hello") == b"hello"
            stream, answer = opened(client)
            assert answer.status == 200
            client.send_body(stream, b"hello", end=False)
            client.until(lambda: answer.body == b"hello", "the echo")
            assert client.get("/").body == b"ok"
        assert agreed == ["h2", "http/1.1", "http/1.1"]
        logged(gateway, "tunnel_cut_by_client", 1)


def test_a_server_that_refuses_http_1_has_the_outcome(
    lend_gateway: Starter, peers: Peers, authority: Authority
) -> None:
    context = authority.server_context(authority.issue("127.0.0.1"))
    server = peers(settings={}, context=context)
    context.set_alpn_protocols(["h2"])
    gateway = lend_gateway(description(server, tls={"ca": str(authority.ca)}))
    with Http2Client(gateway.port) as client:
        assert client.get("/").body == b"ok"
        stream, _ = opened(client)
        assert client.wait(stream).status == 502
    logged(gateway, "websocket_not_spoken")


@needs("node")
def test_node_as_the_server(lend_gateway: Starter) -> None:
    with NodeServer("http2") as server:
        gateway = lend_gateway(description(server))
        with connect_websocket(
            f"ws://127.0.0.1:{gateway.port}/websocket", compression=None, max_size=None
        ) as websocket:
            # Node's stream sends frames back as they are, and masked ones are no server's: so the bytes are looked at.
            assert websocket.response is not None
            assert websocket.response.status_code == 101
            websocket.socket.sendall(b"\x81\x85\0\0\0\0hello")
        with Http2Client(gateway.port) as client:
            stream, answer = opened(client, "/websocket")
            client.send_body(stream, LARGE)
            assert client.wait(stream).body == LARGE
            assert answer.ended
