"""HTTP/2 to servers: requests share connections, each with its own windows, and what a server refuses goes elsewhere."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.http2_client import Http2Client
from tests.support.http2_server import Call, Http2Server, Peer, Script, paths
from tests.support.lives import Log
from tests.support.origin import filler
from tests.support.raw import LIMIT, RawClient
from tests.support.raw_server import RawServer, read_head, replies
from tests.support.tls_server import TlsServer
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Peers = Callable[..., Http2Server]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answers(connection: socket.socket, head: bytes) -> None:
    """Answer one request of HTTP/1 after the other."""
    while head:
        connection.sendall(OK)
        head = read_head(connection)


SIZES = (0, 1, 16383, 16384, 16385, 65535, 131072, 1_500_000)


@pytest.fixture
def peers() -> Iterator[Peers]:
    """Start servers that speak HTTP/2; what they found wrong with the gateway fails the test."""
    with ExitStack() as stack:
        started: list[Http2Server] = []

        def start(script: Script = paths, **more: Any) -> Http2Server:
            started.append(stack.enter_context(Http2Server(script, **more)))
            return started[-1]

        yield start
        assert [server.broken for server in started if server.broken] == []


def http2(*servers: Http2Server | RawServer | TlsServer, clients: bool = True, **backend: Any) -> dict[str, Any]:
    """Return a site whose servers are spoken to in HTTP/2, and whose clients may speak it."""
    description = site(servers, h2=True, **backend)
    description["frontends"][0]["http2"] = clients
    return description


def test_requests_of_all_clients_share_a_connection(lend_gateway: Starter, peers: Peers) -> None:
    server = peers()
    gateway = lend_gateway(http2(server))
    with Http2Client(gateway.port) as client, RawClient(gateway.port) as old:
        streams = [client.begin(f"/bytes/{size}") for size in (10, 70_000, 300_000)]
        assert [len(client.wait(stream).body) for stream in streams] == [10, 70_000, 300_000]
        assert old.get("/bytes/10").body == b"abcdefghij"
        answer = client.get("/bytes/10")
        assert answer.header("content-length") == "10"
        assert (answer.header("via") or "").startswith("2.0 ")
    assert server.connections == 1
    assert len(server.calls) == 5


def test_bodies_of_all_sizes_both_ways(lend_gateway: Starter, peers: Peers) -> None:
    server = peers()
    gateway = lend_gateway(http2(server))
    with Http2Client(gateway.port) as client, RawClient(gateway.port) as old:
        for size in SIZES:
            assert client.get(f"/bytes/{size}").body == filler(size)
            assert client.post("/echo", filler(size)).body == filler(size)
            assert old.get(f"/bytes/{size}").body == filler(size)
            head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
            assert old.ask(head + filler(size)).body == filler(size)
        chunked = b"POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        assert old.ask(chunked).body == b"5"
    assert server.connections == 1


def test_the_head_is_that_of_http_2(lend_gateway: Starter, peers: Peers) -> None:
    server = peers()
    gateway = lend_gateway(http2(server))
    with Http2Client(gateway.port) as client:
        client.get("/headers?a=b", ("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2"), ("x-one", "1"))
    with RawClient(gateway.port) as old:
        old.ask(
            b"GET /old HTTP/1.1\r\nHost: shop.example:81\r\nConnection: upgrade, x-hop\r\nUpgrade: websocket\r\n"
            b"X-Hop: 1\r\nX-Two: 2\r\nKeep-Alive: 5\r\n\r\n"
        )
    new, old_call = server.calls
    assert new.fields[:4] == [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/headers?a=b"),
        (":authority", "localhost"),
    ]
    assert new.header("te") == "trailers"
    assert new.header("cookie") == "a=1; b=2"
    assert new.header("x-one") == "1"
    names = [name for call in (new, old_call) for name, _ in call.fields]
    assert not {"host", "connection", "transfer-encoding", "upgrade", "keep-alive", "x-hop"} & set(names)
    assert names == [name.lower() for name in names]
    assert old_call.header(":authority") == "shop.example:81"
    assert old_call.header("x-two") == "2"
    assert old_call.header("te") is None


def test_interim_answers_and_trailers_pass_both_ways(lend_gateway: Starter, peers: Peers) -> None:
    def script(peer: Peer) -> None:
        for call in peer.complete():
            peer.head(call, 103, ("link", "</a>; rel=preload"))
            peer.head(call, 200, ("trailer", "x-sum"))
            peer.body(call, b"body", end=False)
            peer.trailers(call, ("x-sum", "4"), ("content-length", "4"))

    server = peers(script)
    gateway = lend_gateway(http2(server))
    with Http2Client(gateway.port) as client:
        stream = client.begin("/", ("te", "trailers"), method="POST", end=False)
        client.send_body(stream, b"question", end=False)
        client.connection.send_headers(stream, [("x-check", "8")], end_stream=True)
        client.flush()
        answer = client.wait(stream)
        assert (answer.interims, answer.status, answer.body) == ([103], 200, b"body")
        assert answer.trailers == [("x-sum", "4")]
    assert server.calls[0].trailers == [("x-check", "8")]
    with RawClient(gateway.port) as old:
        old.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\n\r\n")
        text = old.read()
    assert text.startswith(b"HTTP/1.1 103 ")
    assert text.endswith(b"\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n")


def test_a_head_is_as_large_as_the_server_takes(lend_gateway: Starter, peers: Peers, tmp_path: Path) -> None:
    """libnghttp2 alone would send no more than 64 KiB of it, and servers end a connection that brings too much."""
    large = peers(settings={SettingCodes.MAX_HEADER_LIST_SIZE: 1 << 20})
    small = peers(settings={SettingCodes.MAX_HEADER_LIST_SIZE: 4000})
    description = http2(large)
    description["backends"]["small"] = site([small], h2=True)["backends"]["app"]
    description["routes"] = [
        {"match": {"path": "/small"}, "set_header": {"X-Path": "{path}"}, "backend": "small"},
        {"set_header": {"X-Path": "{path}", "X-More": "{path}"}, "backend": "app"},
    ]
    log = Log(tmp_path)
    gateway = lend_gateway(description | {"access_log": log.section})
    path = "/" + "%7C" * 15000
    with Http2Client(gateway.port) as client, RawClient(gateway.port) as old:
        assert old.get("/" + "|" * 15000).status == 200
        beside = client.begin("/small", method="POST", end=False)
        assert old.get("/small" + "|" * 1000).status == 431
        assert client.get("/small" + "|" * 1000).status == 431
        assert (
            old.ask(b"POST /small%s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % (b"|" * 1000)).status == 431
        )
        client.send_body(beside, b"abc")
        assert client.wait(beside).body == b"ok"
        assert old.get("/small").status == 200
    (call,) = large.calls
    assert (call.header(":path"), call.header("x-path"), call.header("x-more")) == (path, path, path)
    assert small.connections == 1
    eventually(lambda: len(log.entries) == 6, "six lines in the log")
    assert sorted(entry["outcome"] for entry in log.entries) == ["head_too_large"] * 3 + ["ok"] * 3


@pytest.mark.parametrize("secure", [False, True], ids=["clients of HTTP/1", "clients of HTTP/2"])
@pytest.mark.parametrize("to", ["HTTP/1", "HTTP/2"])
def test_no_trailer_says_what_clients_must_not_say(
    lend_gateway: Starter, peers: Peers, to: str, *, secure: bool
) -> None:
    """A server may merge them into the head (RFC 9110 section 6.5.1)."""
    said = {
        "x-client-cert-verify": "SUCCESS", "x_client_cert_subject": "CN=admin", "x-user": "admin", "x_user": "admin",
        "cf-connecting-ip": "192.0.2.6", "x-forwarded-for": "192.0.2.7", "x-sum": "4", "x-added": "1",
    }  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    server = peers()
    heads: list[bytes] = []

    def reads(connection: socket.socket, head: bytes) -> None:
        while not head.endswith(b"\r\n\r\n") or b"\r\n0\r\n" not in head:
            head += connection.recv(65536)
        heads.append(head)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    with RawServer(reads) as old:
        description = http2(server) if to == "HTTP/2" else http2(old) | {"backends": site([old])["backends"]}
        description["frontends"][0] |= {"trusted_proxies": ["192.0.2.0/24"], "client_from": "CF-Connecting-IP"}
        description["routes"] = [
            {"set_header": {"X-User": "nobody"}, "default_header": {"X-Added": "2"}, "backend": "app"}
        ]
        gateway = lend_gateway(description)
        if secure:
            with Http2Client(gateway.port) as client:
                stream = client.begin("/", ("te", "trailers"), method="POST", end=False)
                client.send_body(stream, b"body", end=False)
                client.connection.send_headers(stream, list(said.items()), end_stream=True)
                client.flush()
                assert client.wait(stream).status == 200
        else:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            wire = head + b"4\r\nbody\r\n0\r\n" + lines.encode() + b"\r\n"
            with RawClient(gateway.port) as raw:
                raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for cut in range(len(wire)):  # each but the first is behind a good request
                    raw.send(wire[:cut])
                    raw.send(wire[cut:])
                    assert raw.response().status == 200
    if to == "HTTP/2":
        assert server.calls
        assert all(call.trailers == [("x-sum", "4")] for call in server.calls)
    else:
        assert heads
        assert all(head.endswith(b"\r\n0\r\nx-sum: 4\r\n\r\n") for head in heads)


def test_heads_without_bodies(lend_gateway: Starter, peers: Peers) -> None:
    gateway = lend_gateway(http2(peers()))
    with Http2Client(gateway.port) as client, RawClient(gateway.port) as old:
        head = client.get("/bytes/1000", method="HEAD")
        assert (head.status, head.header("content-length"), head.body) == (200, "1000", b"")
        for status in (204, 304, 200, 404):
            answer = client.get(f"/status/{status}")
            assert (answer.status, answer.body, answer.header("content-length")) == (status, b"", None)
            assert old.get(f"/status/{status}").status == status


@pytest.mark.parametrize("offered", [True, False])
def test_over_tls_the_server_chooses(
    lend_gateway: Starter, peers: Peers, authority: Authority, *, offered: bool
) -> None:
    context = authority.server_context(authority.issue("127.0.0.1"))
    if offered:
        server = peers(context=context)
        gateway = lend_gateway(http2(server, tls={"ca": str(authority.ca)}))
        with RawClient(gateway.port) as client:
            assert [client.get("/bytes/10").body for _ in range(3)] == [b"abcdefghij"] * 3
        assert server.calls[0].header(":scheme") == "https"
        assert server.connections == 1
        return
    with TlsServer(context, answers) as old:
        context.set_alpn_protocols(["http/1.1"])
        gateway = lend_gateway(http2(old, tls={"ca": str(authority.ca)}))
        with Http2Client(gateway.port) as client:
            streams = [client.begin() for _ in range(5)]
            assert [client.wait(stream).body for stream in streams] == [b"ok"] * 5
            assert client.get().body == b"ok"
        assert 1 < old.connections <= 6


def test_a_server_of_http_1_has_its_name(lend_gateway: Starter) -> None:
    with RawServer(replies(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")) as server:
        gateway = lend_gateway(http2(server, retries={"attempts": 0}))
        with RawClient(gateway.port) as client:
            assert client.get().status == 502
    assert "http2_not_spoken" in gateway.log


def test_a_dead_port_is_refused_for_all_that_wait(lend_gateway: Starter, peers: Peers) -> None:
    server = peers()
    description = http2(server)
    dead = f"127.0.0.1:{free_port()}"
    description["backends"]["app"]["servers"].insert(0, {"name": "dead", "address": dead})
    gateway = lend_gateway(description)
    with Http2Client(gateway.port) as client:
        streams = [client.begin() for _ in range(6)]
        assert [client.wait(stream).body for stream in streams] == [b"ok"] * 6


def test_localhost_is_tried_by_its_other_address(lend_gateway: Starter, peers: Peers) -> None:
    server = peers()
    description = http2(server)
    description["backends"]["app"]["servers"] = [{"name": "s", "address": f"localhost:{server.port}"}]
    gateway = lend_gateway(description)
    with Http2Client(gateway.port) as client:
        streams = [client.begin() for _ in range(4)]
        assert [client.wait(stream).body for stream in streams] == [b"ok"] * 4


def test_the_limit_of_the_server_makes_more_connections(lend_gateway: Starter, peers: Peers) -> None:
    together = threading.Barrier(3)

    def script(peer: Peer) -> None:
        peer.first(2)
        together.wait(LIMIT)
        paths(peer)

    server = peers(script, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    gateway = lend_gateway(http2(server))
    with Http2Client(gateway.port) as client:
        streams = [client.begin() for _ in range(6)]
        assert [client.wait(stream).body for stream in streams] == [b"ok"] * 6
    assert [len(peer.calls) for peer in server.peers] == [2, 2, 2]


def test_a_slow_client_stops_its_own_stream_alone(lend_gateway: Starter, peers: Peers) -> None:
    sent: dict[str, int] = {}

    def one(peer: Peer) -> None:
        slow, quick = peer.first(2)
        peer.until(lambda: slow.ended and quick.ended)
        peer.head(slow, 200)
        while peer.connection.local_flow_control_window(slow.stream):
            room = peer.connection.local_flow_control_window(slow.stream)
            size = min(room, peer.connection.max_outbound_frame_size)
            peer.connection.send_data(slow.stream, bytes(size))
            peer.flush()
            sent["slow"] = sent.get("slow", 0) + size
        peer.answer(quick, filler(5_000_000))
        peer.body(slow, b"end")

    server = peers(one)
    gateway = lend_gateway(http2(server))
    with Http2Client(gateway.port, window=1000, takes=False) as client, RawClient(gateway.port) as quick:
        slow = client.begin("/slow")
        eventually(lambda: server.calls, "the slow request to arrive")
        assert quick.get("/quick").body == filler(5_000_000)
        assert sent["slow"] <= 400_000
        answer = client.answers[slow]
        client.until(lambda: len(answer.body) == 1000, "what the window takes")
        client.connection.increment_flow_control_window(1_000_000)
        client.connection.increment_flow_control_window(1_000_000, slow)
        client.flush()
        assert client.wait(slow).body == bytes(sent["slow"]) + b"end"
    assert server.connections == 1


def test_a_client_that_leaves_cancels_its_stream(lend_gateway: Starter, peers: Peers) -> None:
    def script(peer: Peer) -> None:
        for call in peer.complete():
            if call.path != "/hang":
                peer.answer(call, b"ok")

    server = peers(script)
    gateway = lend_gateway(http2(server))
    with Http2Client(gateway.port) as client:
        first, _ = client.begin("/hang"), client.begin("/hang")
        eventually(lambda: len(server.calls) == 2, "the requests to arrive")
        client.connection.reset_stream(first)
        client.flush()
        eventually(lambda: server.calls[0].reset == ErrorCodes.CANCEL, "the stream to be cancelled")
        assert server.calls[1].reset is None
        assert client.get().body == b"ok"
    eventually(lambda: server.calls[1].reset == ErrorCodes.CANCEL, "the other stream to be cancelled")
    assert server.connections == 1


def test_streams_that_a_goaway_leaves_out_go_over_another_connection(lend_gateway: Starter, peers: Peers) -> None:
    def script(peer: Peer) -> None:
        if server.connections > 1:
            return paths(peer)
        first, _, _ = peer.first(3)
        peer.until(lambda: all(call.ended for call in peer.calls.values()))
        peer.connection.close_connection(last_stream_id=first.stream)
        goaway = peer.connection.data_to_send()
        peer.socket.sendall(goaway)
        # h2 takes nothing more on a connection that it has closed: the answer is written byte by byte.
        peer.socket.sendall(b"\0\0\1\1\4" + first.stream.to_bytes(4, "big") + b"\x88")
        peer.socket.sendall(b"\0\0\5\0\1" + first.stream.to_bytes(4, "big") + b"first")
        assert not peer.socket.recv(1) or True
        return None

    server = peers(script)
    gateway = lend_gateway(http2(server, retries={"budget": "0%"}))
    with Http2Client(gateway.port) as client:
        streams = [client.begin("/0"), client.begin("/1")]
        posted = client.begin("/echo", method="POST", end=False)
        client.send_body(posted, b"never processed")
        bodies = [client.wait(stream).body for stream in (*streams, posted)]
    assert bodies == [b"first", b"ok", b"never processed"]
    assert server.connections == 2


def refuses_once() -> Script:
    """Return a script that refuses the first request, and answers the others."""
    refused: list[Call] = []

    def script(peer: Peer) -> None:
        for call in peer.complete():
            if not refused:
                refused.append(call)
                peer.connection.reset_stream(call.stream, ErrorCodes.REFUSED_STREAM)
                peer.flush()
            else:
                peer.answer(call, call.body)

    return script


@pytest.mark.parametrize("count", [1, 2])
def test_a_refused_stream_is_tried_elsewhere_or_again(lend_gateway: Starter, peers: Peers, count: int) -> None:
    servers = [peers(refuses_once(), name="refuses"), peers(name="other")][:count]
    gateway = lend_gateway(http2(*servers))
    with Http2Client(gateway.port) as client:
        answer = client.post("/echo", b"question")
        assert (answer.status, answer.body) == (200, b"question")
    assert [len(server.calls) for server in servers] == ([2] if count == 1 else [1, 1])


def test_a_body_that_is_not_kept_any_more_is_not_sent_again(lend_gateway: Starter, peers: Peers) -> None:
    gateway = lend_gateway(http2(peers(refuses_once())))
    with Http2Client(gateway.port) as client:
        answer = client.post("/echo", bytes(100_000))
        assert answer.status == 503
    eventually(lambda: "stream_refused: " in gateway.log and "(REFUSED_STREAM)" in gateway.log, "its name in the log")


def test_a_reset_before_the_answer_has_its_name(lend_gateway: Starter, peers: Peers, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        for call in peer.complete():
            if call.path == "/half":
                peer.head(call, 200)
                peer.body(call, b"half", end=False)
            peer.connection.reset_stream(call.stream, ErrorCodes.INTERNAL_ERROR)
            peer.flush()

    log = Log(tmp_path)
    gateway = lend_gateway(http2(peers(script)) | {"access_log": log.section})
    with Http2Client(gateway.port) as client:
        assert client.get("/whole").status == 502
        half = client.get("/half")
        assert (half.status, half.body, half.ended) == (200, b"half", False)
        assert half.reset is not None
    eventually(lambda: "stream_reset" in gateway.log and "(INTERNAL_ERROR)" in gateway.log, "the reset in the log")
    eventually(lambda: len(log.entries) == 2, "both in the log")
    assert [entry["outcome"] for entry in log.entries] == ["stream_reset", "response_cut"], log.entries


def test_a_silent_server_is_asked_by_ping_and_left(lend_gateway: Starter, peers: Peers) -> None:
    silent = threading.Event()

    def script(peer: Peer) -> None:
        (call, *_) = peer.first()
        if call.path == "/ping":
            peer.until(lambda: peer.pings)
            return paths(peer)
        silent.wait(LIMIT)
        return None

    server = peers(script)
    gateway = lend_gateway(http2(server, timeouts={"response": "2s"}, retries={"attempts": 0}))
    with RawClient(gateway.port) as client:
        assert client.get("/ping").status == 200
    with RawClient(gateway.port) as client:
        server.peers[0].socket.shutdown(socket.SHUT_RDWR)
        eventually(lambda: client.get("/dead").status == 504, "the dead connection to be noticed")
    silent.set()
    assert "ping_timeout" in gateway.log


def test_idle_connections_are_closed_with_a_goaway(lend_gateway: Starter, peers: Peers) -> None:
    server = peers()
    gateway = lend_gateway(http2(server, timeouts={"idle": "200ms"}))
    with RawClient(gateway.port) as client:
        assert client.get("/bytes/10").status == 200
        eventually(lambda: server.peers[0].goaway == ErrorCodes.NO_ERROR, "the GOAWAY")
        assert client.get("/bytes/10").status == 200
    assert server.connections == 2


def test_a_reload_leaves_streams_and_connections_alone(lend_gateway: Starter, peers: Peers) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        for call in peer.complete():
            peer.head(call, 200)
            peer.body(call, b"half ", end=False)
            assert go_on.wait(LIMIT)
            peer.body(call, b"whole")

    server = peers(script)
    description = http2(server)
    gateway = lend_gateway(description)
    with Http2Client(gateway.port) as client:
        stream = client.begin()
        client.until(lambda: client.answers[stream].body == b"half ", "the first half")
        gateway.reload({**description, "drain": "3s"})
        description["backends"]["app"]["h2"] = False
        gateway.reload(description)
        go_on.set()
        assert client.wait(stream).body == b"half whole"
        eventually(lambda: server.peers[0].goaway == ErrorCodes.NO_ERROR, "the connection to be closed")


class Hesitant(Http2Server):
    """Says nothing until `greet` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.greet = threading.Event()

    def serve(self, connection: socket.socket, number: int) -> None:
        assert self.greet.wait(LIMIT)
        super().serve(connection, number)


def test_requests_that_are_cancelled_one_after_the_other_share_the_connection_that_is_opened(
    lend_gateway: Starter,
) -> None:
    with Hesitant() as server:
        gateway = lend_gateway({**http2(server), "access_log": {"path": "-", "format": "{outcome}"}})
        with Http2Client(gateway.port) as client:
            for _ in range(30):
                stream = client.begin()
                client.connection.reset_stream(stream, ErrorCodes.CANCEL)
                client.flush()
            stream = client.begin()
            eventually(lambda: server.connections, "a connection")
            eventually(lambda: gateway.output.count("client_left") == 30, "all to be cancelled before it is there")
            server.greet.set()
            assert client.wait(stream).body == b"ok"
            assert client.get().body == b"ok"
        assert server.connections < 10  # those that wait for longer than a second are not joined
        assert [call.path for call in server.calls] == ["/", "/"]


def test_requests_that_wait_for_a_connection_lose_nothing_to_a_reload(lend_gateway: Starter) -> None:
    with Hesitant() as server:
        description = http2(server)
        gateway = lend_gateway(description)
        with Http2Client(gateway.port) as client:
            stream = client.begin()
            eventually(lambda: server.connections == 1, "the connection to be begun")
            description["backends"]["app"]["h2"] = False
            gateway.reload(description)
            server.greet.set()
            assert client.wait(stream).body == b"ok"
        eventually(lambda: server.peers[0].goaway == ErrorCodes.NO_ERROR, "the connection to be closed")
        assert (server.connections, server.broken) == (1, [])


def test_a_server_that_says_goaway_with_its_settings_gets_no_further_requests(lend_gateway: Starter) -> None:
    class Leaving(Http2Server):
        def serve(self, connection: socket.socket, number: int) -> None:
            if number > 1:
                return super().serve(connection, number)
            connection.sendall(b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x08\7\0\0\0\0\0" + bytes(8))
            while connection.recv(4096):
                pass
            ended.set()
            return None

    ended = threading.Event()
    with Leaving() as server:
        gateway = lend_gateway(http2(server))
        with Http2Client(gateway.port) as client:
            assert [client.get().body for _ in range(3)] == [b"ok"] * 3
        assert ended.wait(LIMIT)
        assert (server.connections, server.broken) == (2, [])


def test_a_response_outlives_its_connection_while_its_client_reads_slowly(lend_gateway: Starter, peers: Peers) -> None:
    def script(peer: Peer) -> None:
        (call,) = peer.first()
        peer.until(lambda: call.ended)
        peer.answer(call, filler(100_000) if call.path == "/slow" else b"ok")

    server = peers(script)
    gateway = lend_gateway(http2(server))
    with Http2Client(gateway.port, window=1000, takes=False) as client:
        slow = client.begin("/slow")
        client.until(lambda: len(client.answers[slow].body) == 1000, "its window to be full")
        worker = psutil.Process(gateway.workers()[0])

        def connected() -> bool:
            return any(peer.raddr and peer.raddr.port == server.port for peer in worker.net_connections("tcp"))

        eventually(lambda: not connected(), "the gateway to see that the server has closed the connection")
        assert client.get("/next").body == b"ok"  # over another one
        assert server.connections == 2
        client.connection.increment_flow_control_window(200_000, slow)
        client.connection.increment_flow_control_window(200_000)
        client.flush()
        assert client.wait(slow).body == filler(100_000)
        assert client.answers[slow].reset is None
