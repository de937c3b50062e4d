"""What RFC 9113 demands of a server when a client breaks its rules, case by case, and what clients may not cost.

Each case is frames, byte by byte, that a library would not send; what follows is a GOAWAY with a code (or the end of the
connection), a RST_STREAM with a code, a status, or nothing at all. After it, the next client is served.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import pytest
from h2.settings import SettingCodes
from hpack import Encoder

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.http2_client import Http2Client
from tests.support.waiting import eventually, free_port

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 32
NO_ERROR, PROTOCOL, INTERNAL, FLOW, TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, CONNECT, CALM = range(12)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/bytes/10")]
HANG = [*REQUEST[:3], (":path", "/hang")]
POST = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/sink")]


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def block(fields: list[tuple[str, str]] = REQUEST, *more: tuple[str, str]) -> bytes:
    """Without the dynamic table, so that each block stands alone."""
    return Encoder().encode([*fields, *more], huffman=False) if not more else Encoder().encode([*fields, *more])


def request(
    stream: int = 1, fields: list[tuple[str, str]] = REQUEST, *more: tuple[str, str], end: bool = True
) -> bytes:
    encoded = b"".join(literal(name, value) for name, value in [*fields, *more])
    return frame(HEADERS, encoded, END_HEADERS | (END_STREAM if end else 0), stream)


def literal(name: str, value: str) -> bytes:
    """A field that is never indexed (RFC 7541 section 6.2.3), as raw bytes."""
    raw = name.encode("latin-1"), value.encode("latin-1")
    return b"\x10" + b"".join(integer(len(text), 7) + text for text in raw)


def integer(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    out, value = [most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


@dataclass
class Heard:
    """What came back: statuses by stream (the first byte of :status in the static table or literal is not decoded)."""

    goaway: int | None = None
    resets: dict[int, int] | None = None
    heads: set[int] | None = None
    pings: int = 0
    closed: bool = False


class Raw:
    """A connection that sends frames as they are."""

    def __init__(self, port: int, begin: bytes = PREFACE + frame(SETTINGS)) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10.0)
        self.data = b""
        self.heard = Heard(resets={}, heads=set())
        self.socket.sendall(begin)

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError:
            self.heard.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def until(self, holds: Callable[[Heard], bool]) -> Heard:
        """Read until `holds`, or the end. Raises TimeoutError."""
        while not holds(self.heard) and not self.heard.closed:
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionResetError:
                more = b""
            if not more:
                self.heard.closed = True
            self.data += more
            self._take()
        return self.heard

    def _take(self) -> None:
        assert self.heard.resets is not None
        assert self.heard.heads is not None
        while len(self.data) >= 9:
            length = int.from_bytes(self.data[:3], "big")
            if len(self.data) < 9 + length:
                return
            kind, flags, stream = self.data[3], self.data[4], int.from_bytes(self.data[5:9], "big")
            payload, self.data = self.data[9 : 9 + length], self.data[9 + length :]
            if kind == GOAWAY:
                self.heard.goaway = int.from_bytes(payload[4:8], "big")
            elif kind == RST_STREAM:
                self.heard.resets[stream] = int.from_bytes(payload, "big")
            elif kind == HEADERS:
                self.heard.heads.add(stream)
            elif kind == PING and flags & ACK:
                self.heard.pings += 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    with BackendServer(tmp_path_factory.mktemp("server"), "app1") as started:
        yield started


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, server: BackendServer) -> Iterator[GatewayProcess]:
    description = site([server])
    description["frontends"][0] |= {"http2": True, "limits": {"header_timeout": "1s"}}
    impatient = {
        "name": "impatient",
        "http2": True,
        "listen": f"127.0.0.1:{IMPATIENT}",
        "limits": {"idle_timeout": "300ms"},
    }
    description["frontends"].append(impatient)
    description["access_log"] = {"path": "-", "format": "json"}
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), description) as started:
        yield started


IMPATIENT = free_port()
PING_FRAME = frame(PING, b"12345678")
BODY = request(1, POST, end=False)
GOAWAYS: dict[str, tuple[bytes, set[int]]] = {
    # section 3.4: the preface ends with SETTINGS
    "3.4 no SETTINGS first": (PREFACE + PING_FRAME, {PROTOCOL}),
    # section 4
    "4.2 a frame above SETTINGS_MAX_FRAME_SIZE": (frame(DATA, bytes(16385), 0, 1), {SIZE, PROTOCOL}),
    "4.2 HEADERS above SETTINGS_MAX_FRAME_SIZE": (frame(HEADERS, bytes(16385), END_HEADERS, 1), {SIZE}),
    "4.3 a block that is no HPACK": (frame(HEADERS, b"\xff\xff\xff\xff\xff\xff", END_HEADERS | END_STREAM, 1), {COMPRESSION}),
    "4.3 a reference into an empty table": (frame(HEADERS, b"\xbf", END_HEADERS | END_STREAM, 1), {COMPRESSION}),
    "4.3 another frame within a block": (frame(HEADERS, block(), END_STREAM, 1) + PING_FRAME, {PROTOCOL}),
    "4.3 another stream's frame within a block": (
        frame(HEADERS, block(), END_STREAM, 1) + frame(CONTINUATION, b"", END_HEADERS, 3), {PROTOCOL},
    ),
    # section 5.1
    "5.1 DATA on an idle stream": (frame(DATA, b"x", END_STREAM, 1), {PROTOCOL}),
    "5.1 RST_STREAM on an idle stream": (frame(RST_STREAM, bytes(4), 0, 1), {PROTOCOL}),
    "5.1 WINDOW_UPDATE on an idle stream": (frame(WINDOW_UPDATE, struct.pack(">I", 1), 0, 1), {PROTOCOL}),
    "5.1.1 an even stream": (request(2), {PROTOCOL}),
    "5.1 PUSH_PROMISE on an idle stream": (frame(PUSH_PROMISE, bytes(4) + block(), END_HEADERS, 1), {PROTOCOL}),
    "5.4.1 HEADERS on stream 0": (request(0), {PROTOCOL}),
    "5.5 an unknown frame within a block": (
        frame(HEADERS, block()[:3], END_STREAM, 1) + frame(0xBB, b"x", 0, 1) + frame(CONTINUATION, block()[3:], END_HEADERS, 1),
        {PROTOCOL},
    ),
    # section 6; errors of a stream may be errors of the connection (section 5.4.2)
    "5.1 HEADERS behind END_STREAM": (request(1, HANG) + request(1, HANG), {CLOSED}),
    "5.1 DATA behind END_STREAM": (request(1, POST) + frame(DATA, b"x", 0, 1), {CLOSED}),
    "6.3 PRIORITY of 4 bytes": (BODY + frame(PRIORITY, bytes(4), 0, 1), {SIZE}),
    "6.9 WINDOW_UPDATE by 0 on a stream": (BODY + frame(WINDOW_UPDATE, bytes(4), 0, 1), {PROTOCOL}),
    "6.1 DATA on stream 0": (frame(DATA, b"x", END_STREAM, 0), {PROTOCOL}),
    "6.1 padded DATA without the length of its padding": (BODY + frame(DATA, b"", PADDED, 1), {SIZE, PROTOCOL}),
    "6.1 padding longer than DATA": (BODY + frame(DATA, b"\xff" + b"x", PADDED, 1), {PROTOCOL}),
    "6.2 padding longer than HEADERS": (frame(HEADERS, b"\xff" + block(), PADDED | END_HEADERS, 1), {PROTOCOL}),
    "6.2 HEADERS too short for their priority": (frame(HEADERS, bytes(4), WITH_PRIORITY | END_HEADERS, 1), {SIZE, PROTOCOL}),
    "6.2 HEADERS without the length of their padding": (frame(HEADERS, b"", PADDED | END_HEADERS, 1), {SIZE, PROTOCOL}),
    "6.3 PRIORITY on stream 0": (frame(PRIORITY, bytes(5), 0, 0), {PROTOCOL}),
    "6.4 RST_STREAM on stream 0": (frame(RST_STREAM, bytes(4), 0, 0), {PROTOCOL}),
    "6.4 RST_STREAM of 5 bytes": (BODY + frame(RST_STREAM, bytes(5), 0, 1), {SIZE}),
    "6.4 RST_STREAM of 3 bytes": (BODY + frame(RST_STREAM, bytes(3), 0, 1), {SIZE}),
    "6.5 SETTINGS on a stream": (frame(SETTINGS, b"", 0, 1), {PROTOCOL}),
    "6.5 SETTINGS of 5 bytes": (frame(SETTINGS, bytes(5)), {SIZE}),
    "6.5 an ACK with a payload": (frame(SETTINGS, bytes(6), ACK), {SIZE}),
    "6.5.2 ENABLE_PUSH of 2": (settings((2, 2)), {PROTOCOL}),
    "6.5.2 INITIAL_WINDOW_SIZE above 2^31-1": (settings((4, 1 << 31)), {FLOW}),
    "6.5.2 MAX_FRAME_SIZE below 16384": (settings((5, 16383)), {PROTOCOL}),
    "6.5.2 MAX_FRAME_SIZE above 2^24-1": (settings((5, 1 << 24)), {PROTOCOL}),
    "6.5.2 NO_RFC7540_PRIORITIES of 2": (settings((9, 2)), {PROTOCOL}),
    "6.6 PUSH_PROMISE on stream 0": (frame(PUSH_PROMISE, struct.pack(">I", 2) + block(), END_HEADERS), {PROTOCOL}),
    "6.6 PUSH_PROMISE from a client": (BODY + frame(PUSH_PROMISE, struct.pack(">I", 2) + block(), END_HEADERS, 1), {PROTOCOL}),
    "6.7 PING on a stream": (frame(PING, bytes(8), 0, 1), {PROTOCOL}),
    "6.7 PING of 9 bytes": (frame(PING, bytes(9)), {SIZE}),
    "6.7 PING of 7 bytes": (frame(PING, bytes(7)), {SIZE}),
    "6.8 GOAWAY on a stream": (frame(GOAWAY, bytes(8), 0, 1), {PROTOCOL}),
    "6.8 GOAWAY of 7 bytes": (frame(GOAWAY, bytes(7)), {SIZE}),
    "6.9 WINDOW_UPDATE of 3 bytes": (frame(WINDOW_UPDATE, bytes(3)), {SIZE}),
    "6.9 WINDOW_UPDATE of 5 bytes": (frame(WINDOW_UPDATE, bytes(5)), {SIZE}),
    "6.9 WINDOW_UPDATE by 0": (frame(WINDOW_UPDATE, bytes(4)), {PROTOCOL}),
    "6.9.1 a connection's window above 2^31-1": (frame(WINDOW_UPDATE, struct.pack(">I", 0x7FFFFFFF)), {FLOW}),
    "6.10 CONTINUATION on stream 0": (
        frame(HEADERS, block()[:3], END_STREAM, 1) + frame(CONTINUATION, block()[3:], END_HEADERS, 0), {PROTOCOL},
    ),
    "6.10 CONTINUATION behind the last one": (
        frame(HEADERS, block()[:3], 0, 1) + frame(CONTINUATION, block()[3:], END_HEADERS, 1)
        + frame(CONTINUATION, b"", END_HEADERS, 1), {PROTOCOL},
    ),
    "6.10 CONTINUATION without HEADERS": (frame(CONTINUATION, block(), END_HEADERS, 1), {PROTOCOL}),
    "6.10 CONTINUATION behind END_HEADERS": (BODY + frame(CONTINUATION, b"", END_HEADERS, 1), {PROTOCOL}),
}  # fmt: skip
RESETS: dict[str, tuple[bytes, set[int]]] = {
    # an error of the connection, by the letter; libnghttp2 ends the stream
    "6.9.2 a stream's window above 2^31-1 by SETTINGS": (
        BODY + frame(WINDOW_UPDATE, struct.pack(">I", 0x7FFF0000), 0, 1) + settings((4, 0x7FFFFFFF)), {FLOW},
    ),
    "5.3.1 a stream that depends on itself": (frame(PRIORITY, struct.pack(">IB", 1, 0), 0, 1) + BODY, set()),
    "6.9.1 a stream's window above 2^31-1": (BODY + frame(WINDOW_UPDATE, struct.pack(">I", 0x7FFFFFFF), 0, 1), {FLOW}),
    "6.9.1 more data than a stream's window": (
        request(1, [POST[0], *HANG[1:]], end=False) + frame(DATA, bytes(16384), 0, 1) * 1000, {FLOW},  # more than all kernels take
    ),
    "8.5 HEADERS behind those that open a WebSocket": (
        request(1, [(":method", "CONNECT"), (":protocol", "websocket"), *HANG[1:]], end=False)
        + frame(HEADERS, literal("a", "b"), END_HEADERS | END_STREAM, 1), {PROTOCOL},
    ),
    "8.1.1 a body longer than Content-Length": (
        request(1, POST, ("content-length", "1"), end=False) + frame(DATA, b"xy", 0, 1), {PROTOCOL},
    ),
    "8.1 trailers without END_STREAM": (BODY + frame(HEADERS, literal("a", "b"), END_HEADERS, 1), {PROTOCOL}),
    "8.1 capital letters in an open request": (request(1, POST, ("Abc", "x"), end=False), {PROTOCOL}),
}  # fmt: skip
REFUSALS: dict[str, bytes] = {
    "8.2.1 a capital letter": request(1, REQUEST, ("Abc", "x")),
    "8.2.1 CR LF in a value": request(1, REQUEST, ("a", "x\r\nb: y")),
    "8.2.1 NUL in a value": request(1, REQUEST, ("a", "x\0")),
    "8.2.1 a space in a name": request(1, REQUEST, ("a b", "x")),
    "8.2.1 a colon in a name": request(1, REQUEST, ("a:b", "x")),
    "8.2.1 a control byte in a name": request(1, REQUEST, ("a\x7f", "x")),
    "8.2.1 a byte above ASCII in a name": request(1, REQUEST, ("a\xe9", "x")),
    "8.2.1 no name": request(1, REQUEST, ("", "x")),
    "8.2.1 LF in a value": request(1, REQUEST, ("a", "x\ny")),
    "8.2.1 CR in a value": request(1, REQUEST, ("a", "x\ry")),
    "8.2.1 a space before a value": request(1, REQUEST, ("a", " x")),
    "8.2.1 a tab behind a value": request(1, REQUEST, ("a", "x\t")),
    "8.2.2 Keep-Alive": request(1, REQUEST, ("keep-alive", "timeout=5")),
    "8.2.2 Proxy-Connection": request(1, REQUEST, ("proxy-connection", "close")),
    "8.2.2 Upgrade": request(1, REQUEST, ("upgrade", "websocket")),
    "8.2.2 Connection": request(1, REQUEST, ("connection", "close")),
    "8.2.2 Transfer-Encoding": request(1, REQUEST, ("transfer-encoding", "chunked")),
    "8.2.2 TE: gzip": request(1, REQUEST, ("te", "gzip")),
    "8.3 an unknown pseudo-header": request(1, [*REQUEST, (":x", "y")]),
    "8.3 a pseudo-header behind a header": request(1, [*REQUEST[:3], ("a", "b"), REQUEST[3]]),
    "8.3 a pseudo-header twice": request(1, [*REQUEST, REQUEST[3]]),
    "8.3 :status": request(1, [*REQUEST, (":status", "200")]),
    "8.3 :protocol without CONNECT": request(1, [*REQUEST, (":protocol", "websocket")]),
    "8.3.1 :method that is no token": request(1, [(":method", "G T"), *REQUEST[1:]]),
    "8.3.1 a :path without a slash": request(1, [*REQUEST[:3], (":path", "bytes/10")]),
    "8.3.1 a :path with a host": request(1, [*REQUEST[:3], (":path", "http://a/bytes/10")]),
    "8.3.1 * without OPTIONS": request(1, [*REQUEST[:3], (":path", "*")]),
    "8.3.1 userinfo in :authority": request(1, [*REQUEST[:2], (":authority", "u@a"), REQUEST[3]]),
    "8.3.1 an empty :authority": request(1, [*REQUEST[:2], (":authority", ""), REQUEST[3]]),
    "8.3.1 neither :authority nor Host": request(1, [*REQUEST[:2], REQUEST[3]]),
    "8.3.1 two Host": request(1, REQUEST, ("host", "a"), ("host", "a")),
    "8.3.1 no :method": request(1, REQUEST[1:]),
    "8.3.1 no :scheme": request(1, [REQUEST[0], *REQUEST[2:]]),
    "8.3.1 no :path": request(1, REQUEST[:3]),
    "8.3.1 an empty :path": request(1, [*REQUEST[:3], (":path", "")]),
    "8.3.1 a Host that is not the :authority": request(1, REQUEST, ("host", "b")),
    "8.1.1 Content-Length without a body": request(1, REQUEST, ("content-length", "1")),
    "8.1.1 a body shorter than Content-Length": (
        request(1, POST, ("content-length", "3"), end=False) + frame(DATA, b"xy", END_STREAM, 1)
    ),
    "8.1 a pseudo-header among trailers": BODY + frame(HEADERS, literal(":path", "/"), END_HEADERS | END_STREAM, 1),
    "8.1 trailers with capital letters": BODY + frame(HEADERS, literal("Abc", "x"), END_HEADERS | END_STREAM, 1),
    "8.1.1 two Content-Length": request(1, POST, ("content-length", "0"), ("content-length", "0")),
    "8.1.1 a Content-Length that is no number": request(1, POST, ("content-length", "+0")),
    "8.5 CONNECT with a :path": request(1, [(":method", "CONNECT"), *REQUEST[1:]]),
    "8.5 CONNECT": request(1, [(":method", "CONNECT"), (":authority", "a:443")]),
}  # fmt: skip
HARMLESS: dict[str, bytes] = {
    "4.1 an unknown frame": frame(0xBB, b"x" * 100, 0xFF, 0),
    "4.1 unknown flags": frame(PING, bytes(8), 0xFE),
    "5.1 PRIORITY on an idle stream": frame(PRIORITY, struct.pack(">IB", 0, 15), 0, 99),
    "5.5 an unknown extension frame on a stream": frame(0xBC, b"", 0, 1),
    "6.2 padded HEADERS": frame(HEADERS, b"\x04" + block() + bytes(4), PADDED | END_HEADERS | END_STREAM, 1),
    "6.2 HEADERS with a priority": frame(HEADERS, bytes(5) + block(), WITH_PRIORITY | END_HEADERS | END_STREAM, 1),
    "6.5.2 an unknown setting": settings((0x99, 1)),
    "6.5.2 a setting twice, of which the last counts": settings((4, 0), (4, 65535)),
    "6.9 WINDOW_UPDATE behind END_STREAM": request(1, HANG) + frame(WINDOW_UPDATE, struct.pack(">I", 5), 0, 1),
    "6.4 RST_STREAM of a stream that is over": request(1, HANG) + frame(RST_STREAM, struct.pack(">I", CANCEL), 0, 1) * 2,
    "8.2.3 Cookie in pieces": request(1, REQUEST, ("cookie", "a=1"), ("cookie", "b=2")),
    "8.3.1 OPTIONS *": request(1, [(":method", "OPTIONS"), *REQUEST[1:3], (":path", "*")]),
    "6.10 a block in pieces": frame(HEADERS, block()[:3], END_STREAM, 1) + frame(CONTINUATION, block()[3:], END_HEADERS, 1),
}  # fmt: skip


def is_served(gateway: GatewayProcess) -> None:
    with Http2Client(gateway.port) as client:
        assert client.get("/bytes/10").body == b"abcdefghij"


@pytest.mark.parametrize("data, codes", GOAWAYS.values(), ids=GOAWAYS)
def test_what_ends_the_connection(gateway: GatewayProcess, data: bytes, codes: set[int]) -> None:
    with Raw(gateway.port, data if data.startswith(PREFACE) else PREFACE + frame(SETTINGS) + data) as raw:
        heard = raw.until(lambda heard: heard.closed)
        assert heard.goaway in codes
        is_served(gateway)


@pytest.mark.parametrize("data, codes", RESETS.values(), ids=RESETS)
def test_what_ends_the_stream(gateway: GatewayProcess, data: bytes, codes: set[int]) -> None:
    with Raw(gateway.port) as raw:
        raw.send(data)
        if codes:
            heard = raw.until(lambda heard: 1 in (heard.resets or {}) or heard.goaway is not None)
            assert heard.goaway is None
            assert (heard.resets or {})[1] in codes
        raw.send(request(3))
        assert raw.until(lambda heard: 3 in (heard.heads or ())).goaway is None


@pytest.mark.parametrize("data", REFUSALS.values(), ids=REFUSALS)
def test_what_is_no_request_reaches_no_server(gateway: GatewayProcess, server: BackendServer, data: bytes) -> None:
    before = server.count
    with Raw(gateway.port) as raw:
        raw.send(data)
        raw.until(lambda heard: 1 in (heard.heads or ()) or 1 in (heard.resets or ()))
        raw.send(request(3))
        assert raw.until(lambda heard: 3 in (heard.heads or ())).goaway is None
        assert server.count - before <= (
            2 if data.startswith((BODY, request(1, POST, ("content-length", "3"), end=False))) else 1
        )


@pytest.mark.parametrize("data", HARMLESS.values(), ids=HARMLESS)
def test_what_is_ignored_or_allowed(gateway: GatewayProcess, data: bytes) -> None:
    with Raw(gateway.port) as raw:
        raw.send(data + request(101) + frame(PING, bytes(8)))
        heard = raw.until(lambda heard: 101 in (heard.heads or ()) and heard.pings > 0)
        assert (heard.goaway, heard.closed) == (None, False)


def test_data_behind_a_reset_of_ones_own(gateway: GatewayProcess) -> None:
    """Section 5.1: an error of the stream, which may be ignored for what was on its way."""
    with Raw(gateway.port) as raw:
        raw.send(BODY + frame(RST_STREAM, struct.pack(">I", CANCEL), 0, 1) + frame(DATA, b"x", END_STREAM, 1))
        raw.send(frame(PING, bytes(8)))
        heard = raw.until(lambda heard: heard.pings > 0 or heard.closed)
        assert heard.goaway in {None, CLOSED}
        assert 1 not in (heard.heads or ())
        is_served(gateway)


def test_more_streams_than_allowed_are_refused(gateway: GatewayProcess) -> None:
    """Section 5.1.2: they have reached no server, so that the client may send them again."""
    with Raw(gateway.port) as raw:
        raw.send(b"".join(request(1 + 2 * i, HANG) for i in range(101)) + frame(PING, bytes(8)))
        heard = raw.until(lambda heard: heard.pings > 0 and bool(heard.resets))
        assert heard.resets == {201: REFUSED}
        assert heard.goaway is None
    with Http2Client(gateway.port) as client:  # behind the ACK of the settings
        streams = [client.begin("/hang") for _ in range(100)]
        client.connection.remote_settings.max_concurrent_streams = 1000
        client.until(lambda: client.connection.outbound_flow_control_window > 0, "anything")
        assert client.wait(client.begin("/hang")).reset in {PROTOCOL, REFUSED}
        assert all(client.answers[stream].reset is None for stream in streams)
    is_served(gateway)


def test_a_window_may_become_negative(gateway: GatewayProcess) -> None:
    """Section 6.9.2: what was sent before counts against a window that a client makes smaller."""
    with Http2Client(gateway.port, window=60_000, takes=False) as client:
        stream = client.begin("/bytes/200000")
        client.until(lambda: len(client.answers[stream].body) == 60_000, "its window to be full")
        client.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
        client.flush()
        client.connection.increment_flow_control_window(59_990, stream)  # to 0
        client.flush()
        client.connection.ping(b"12345678")
        client.flush()
        assert client.get("/bytes/5").body == b"abcde"
        assert len(client.answers[stream].body) == 60_000
        client.connection.increment_flow_control_window(7, stream)
        client.flush()
        client.until(lambda: len(client.answers[stream].body) == 60_007, "what was let in")


# ----------------------------------------------------------------------------- behind a good request, and cut anywhere


def behind(data: bytes) -> bytes:
    """The same frames on streams two further, for a connection whose stream 1 has had a request."""
    moved = b""
    while data:
        length, stream = int.from_bytes(data[:3], "big"), int.from_bytes(data[5:9], "big")
        moved += data[:5] + struct.pack(">I", stream + 2 if stream else 0) + data[9 : 9 + length]
        data = data[9 + length :]
    return moved


def same_packet(raw: Raw, data: bytes) -> None:
    raw.send(request() + data)


def after_its_answer(raw: Raw, data: bytes) -> None:
    raw.send(request())
    raw.until(lambda heard: 1 in (heard.heads or ()))
    raw.send(data)


def while_it_is_at_the_server(raw: Raw, data: bytes) -> None:
    raw.send(request(1, HANG) + frame(PING, bytes(8)))
    raw.until(lambda heard: heard.pings > 0)
    raw.send(data)


WAYS = [same_packet, after_its_answer, while_it_is_at_the_server]
BREAKING = {name: case for name, case in GOAWAYS.items() if not case[0].startswith(PREFACE)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("data, codes", BREAKING.values(), ids=BREAKING)
def test_what_ends_the_connection_behind_a_good_request(
    gateway: GatewayProcess, data: bytes, codes: set[int], way: Callable[[Raw, bytes], None]
) -> None:
    with Raw(gateway.port) as raw:
        way(raw, behind(data))
        assert raw.until(lambda heard: heard.closed).goaway in codes
        is_served(gateway)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("data", REFUSALS.values(), ids=REFUSALS)
def test_what_is_no_request_behind_a_good_one(
    gateway: GatewayProcess, data: bytes, way: Callable[[Raw, bytes], None]
) -> None:
    with Raw(gateway.port) as raw:
        way(raw, behind(data))
        raw.until(lambda heard: 3 in (heard.heads or ()) or 3 in (heard.resets or ()))
        raw.send(request(5))
        heard = raw.until(lambda heard: 5 in (heard.heads or ()))
        assert heard.goaway is None
        assert way is while_it_is_at_the_server or 1 in (heard.heads or ())


CONVERSATION = (
    PREFACE
    + frame(SETTINGS)
    + request()
    + request(3, POST, end=False)
    + frame(DATA, b"body", 0, 3)
    + frame(HEADERS, literal("a", "b"), END_HEADERS | END_STREAM, 3)
    + frame(HEADERS, block()[:3], END_STREAM, 5)
    + frame(CONTINUATION, block()[3:], END_HEADERS, 5)
)
PART = 50  # connections at a time


@pytest.mark.parametrize("begin", range(0, len(CONVERSATION), PART))
def test_a_conversation_cut_at_every_place_is_understood(gateway: GatewayProcess, begin: int) -> None:
    with ExitStack() as stack:
        cuts = range(begin, min(begin + PART, len(CONVERSATION)))
        raws = [(cut, stack.enter_context(Raw(gateway.port, CONVERSATION[:cut]))) for cut in cuts]
        is_served(gateway)  # by the one worker, which has met the first parts before
        for cut, raw in raws:
            raw.send(CONVERSATION[cut:])
        for _, raw in raws:
            heard = raw.until(lambda heard: {1, 3, 5} <= (heard.heads or set()) or heard.goaway is not None)
            assert (heard.goaway, heard.resets, heard.heads) == (None, {}, {1, 3, 5})


@pytest.mark.parametrize("begin", range(0, len(CONVERSATION), PART))
def test_a_conversation_that_ends_at_any_place_ends_its_connection(gateway: GatewayProcess, begin: int) -> None:
    with ExitStack() as stack:
        raws = []
        for cut in range(begin, min(begin + PART, len(CONVERSATION))):
            raws.append(stack.enter_context(Raw(gateway.port, CONVERSATION[:cut])))
            raws[-1].socket.shutdown(socket.SHUT_WR)
        for raw in raws:
            raw.until(lambda heard: heard.closed)
        is_served(gateway)


def test_streams_beyond_the_limit_are_refused(gateway: GatewayProcess) -> None:
    with Raw(gateway.port) as raw:
        raw.send(frame(SETTINGS, b"", ACK))
        raw.send(b"".join(request(1 + 2 * i, HANG) for i in range(101)))
        heard = raw.until(lambda heard: bool(heard.resets) or heard.goaway is not None)
        assert (heard.resets or {}).get(201) == REFUSED or heard.goaway == PROTOCOL


def reset_rapidly(raw: Raw, i: int) -> None:
    """CVE-2023-44487."""
    raw.send(request(1 + 2 * i, HANG) + frame(RST_STREAM, struct.pack(">I", CANCEL), 0, 1 + 2 * i))


def have_it_reset(raw: Raw, i: int) -> None:
    """CVE-2025-8671: a window update that is an error of the stream."""
    raw.send(request(1 + 2 * i, HANG) + frame(WINDOW_UPDATE, struct.pack(">I", 0x7FFFFFFF), 0, 1 + 2 * i))


def be_malformed(raw: Raw, i: int) -> None:
    raw.send(request(1 + 2 * i, POST, ("Abc", "x"), end=False))


def ping(raw: Raw, _: int) -> None:
    raw.send(frame(PING, bytes(8)) * 10)


def set_anew(raw: Raw, i: int) -> None:
    raw.send(settings((4, 65535 + i)) * 10)


def prioritise(raw: Raw, i: int) -> None:
    raw.send(frame(PRIORITY, struct.pack(">IB", 0, i % 256), 0, 1 + 2 * i) * 10)


def send_nothing(raw: Raw, i: int) -> None:
    raw.send((b"" if i else BODY) + frame(DATA, b"", 0, 1) * 10)


def send_padding(raw: Raw, i: int) -> None:
    raw.send((b"" if i else BODY) + frame(DATA, b"\x09" + bytes(9), PADDED, 1) * 10)


def open_windows(raw: Raw, i: int) -> None:
    raw.send((b"" if i else BODY) + frame(WINDOW_UPDATE, struct.pack(">I", 1), 0, 1) * 10)


def go_back(raw: Raw, i: int) -> None:
    """Against section 5.1.1; trailers of a stream that was reset look the same, so it is no error at once."""
    raw.send((b"" if i else request(9)) + request(3))


def continue_for_ever(raw: Raw, i: int) -> None:
    raw.send((b"" if i else frame(HEADERS, block(), END_STREAM, 1)) + frame(CONTINUATION, literal("a", "b"), 0, 1))


def continue_with_nothing(raw: Raw, i: int) -> None:
    raw.send((b"" if i else frame(HEADERS, block(), END_STREAM, 1)) + frame(CONTINUATION, b"", 0, 1))


def send_a_bomb(raw: Raw, i: int) -> None:
    """4000 bytes once, then one byte for each time that they are to be there again."""
    first = b"\x40" + integer(1, 7) + b"x" + integer(4000, 7) + bytes(b"y" * 4000)
    raw.send(frame(HEADERS, block() + first + b"\xbe" * 9000, END_HEADERS | END_STREAM, 1 + 2 * i))


def send_a_bomb_of_empty_fields(raw: Raw, i: int) -> None:
    """CVE-2026-49975: fields without bytes, which only a count of fields sees."""
    first = b"\x40" + integer(1, 7) + b"x" + integer(0, 7)
    raw.send(frame(HEADERS, block() + first + b"\xbe" * 9000, END_HEADERS | END_STREAM, 1 + 2 * i))


def reset_what_is_over(raw: Raw, i: int) -> None:
    raw.send((b"" if i else request()) + frame(RST_STREAM, struct.pack(">I", CANCEL), 0, 1) * 10)


ABUSES: dict[str, tuple[Callable[[Raw, int], None], str]] = {
    "rapid reset": (reset_rapidly, "reset_flood"),
    "made you reset": (have_it_reset, "reset_flood"),
    "malformed requests": (be_malformed, "reset_flood"),
    "PING": (ping, "frame_flood"),
    "SETTINGS": (set_anew, "frame_flood"),
    "PRIORITY": (prioritise, "frame_flood"),
    "empty DATA": (send_nothing, "frame_flood"),
    "DATA that is all padding": (send_padding, "frame_flood"),
    "WINDOW_UPDATE": (open_windows, "frame_flood"),
    "HEADERS of streams that are over": (go_back, "reset_flood"),
    "RST_STREAM of streams that are over": (reset_what_is_over, "frame_flood"),
    "CONTINUATION": (continue_for_ever, "header_flood"),
    "empty CONTINUATION": (continue_with_nothing, "header_flood"),
    "a bomb by reference": (send_a_bomb, "header_flood"),
    "a bomb of empty fields": (send_a_bomb_of_empty_fields, "header_flood"),
}


@pytest.mark.parametrize("step, reason", ABUSES.values(), ids=ABUSES)
def test_what_ends_as_abuse(gateway: GatewayProcess, step: Callable[[Raw, int], None], reason: str) -> None:
    with Raw(gateway.port) as raw:
        raw.socket.settimeout(0.02)
        for i in range(3000):
            step(raw, i)
            if i % 50 == 49 or i < 3:
                try:
                    raw.until(lambda heard: heard.closed)
                except TimeoutError:
                    continue
            if raw.heard.closed:
                break
        raw.socket.settimeout(10.0)
        heard = raw.until(lambda heard: heard.closed)
        assert heard.goaway == CALM
        gateway.wait_for_log(f"HTTP/2 connection of 127.0.0.1 ended: {reason}: ")
        is_served(gateway)


def test_tiny_windows_end_as_abuse(gateway: GatewayProcess) -> None:
    with Http2Client(gateway.port, window=1, takes=False) as client:
        stream = client.begin("/bytes/100000")
        for _ in range(3000):
            if client.closed or client.goaways:
                break
            client.connection.increment_flow_control_window(1, stream)
            try:
                client.flush()
                client.read()
            except OSError:
                break
        client.until_closed()
        assert client.goaways[-1][1] == CALM
    # The WINDOW_UPDATEs cost as well: the reason is that of whichever used up the budget.
    gateway.wait_for_log("ended: (small_windows|frame_flood): ")
    is_served(gateway)


def test_a_client_that_reads_nothing_is_given_up(gateway: GatewayProcess) -> None:
    """Whether the answer is still at the server, or all of it is here."""
    with Http2Client(IMPATIENT, window=0, takes=False) as client:
        streams = [client.begin("/bytes/5000000"), client.begin("/bytes/100")]
        for stream in streams:
            assert client.wait(stream).reset in {INTERNAL, CANCEL}
    eventually(lambda: '"outcome":"client_timeout"' in gateway.output, "the large one in the log")


def test_a_header_block_that_takes_long(gateway: GatewayProcess) -> None:
    with Raw(gateway.port) as raw:
        raw.send(frame(HEADERS, block(), END_STREAM, 1))
        assert raw.until(lambda heard: heard.closed).goaway == CALM
        gateway.wait_for_log("ended: slow_headers: ")


def test_a_client_that_says_nothing_is_closed(gateway: GatewayProcess) -> None:
    with Raw(gateway.port, PREFACE[:10]) as raw:
        assert raw.until(lambda heard: heard.closed).goaway is None


def test_all_is_counted(gateway: GatewayProcess) -> None:
    eventually(lambda: '"outcome":"http2_error"' in gateway.output, "streams that broke rules in the log")
