"""What RFC 9113 demands of a client when a server breaks its rules, case by case, and what servers may not cost.

Each case is frames, byte by byte, that a library would not send, in answer to a request; what follows is a GOAWAY or a
RST_STREAM with a code, and a 502 or a response that breaks off for the client. After it, the next client is served.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hpack import Decoder

from tests.conformance.test_http2 import (
    ACK,
    CALM,
    CLOSED,
    COMPRESSION,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SIZE,
    WINDOW_UPDATE,
    frame,
    literal,
    settings,
)
from tests.support.gateway_process import GatewayProcess, site
from tests.support.http2_client import Http2Client
from tests.support.raw import RawClient
from tests.support.raw_server import Acceptor
from tests.support.waiting import eventually

STATUS = (":status", "200")


def block(*fields: tuple[str, str]) -> bytes:
    return b"".join(literal(name, value) for name, value in fields)


def head(*fields: tuple[str, str], flags: int = END_HEADERS) -> bytes:
    """HEADERS on the stream of the request."""
    return frame(HEADERS, block(*fields), flags, 1)


OK = head(STATUS)
WHOLE = OK + frame(DATA, b"ok", END_STREAM, 1)
GOAWAYS: dict[str, tuple[bytes, set[int]]] = {
    "4.2 a frame above SETTINGS_MAX_FRAME_SIZE": (OK + frame(DATA, bytes(16385), 0, 1), {SIZE}),
    "4.2 HEADERS above SETTINGS_MAX_FRAME_SIZE": (frame(HEADERS, bytes(16385), END_HEADERS, 1), {SIZE}),
    "4.3 a block that is no HPACK": (frame(HEADERS, b"\xff\xff\xff\xff\xff\xff", END_HEADERS, 1), {COMPRESSION}),
    "4.3 a reference into an empty table": (frame(HEADERS, b"\xbf", END_HEADERS, 1), {COMPRESSION}),
    "4.3 a larger table than allowed": (frame(HEADERS, b"\x3f\xe1\xff\x03\x88", END_HEADERS, 1), {COMPRESSION}),
    "4.3 another frame within a block": (head(STATUS, flags=0) + frame(PING, bytes(8)), {PROTOCOL}),
    "4.3 another stream's frame within a block": (
        head(STATUS, flags=0) + frame(CONTINUATION, b"", END_HEADERS, 97), {PROTOCOL},
    ),
    "5.1 DATA on an idle stream": (frame(DATA, b"x", 0, 99), {PROTOCOL}),
    "5.1 HEADERS on an idle stream": (frame(HEADERS, b"\x88", END_HEADERS, 99), {PROTOCOL}),
    "5.1 RST_STREAM on an idle stream": (frame(RST_STREAM, bytes(4), 0, 99), {PROTOCOL}),
    "5.1 WINDOW_UPDATE on an idle stream": (frame(WINDOW_UPDATE, struct.pack(">I", 1), 0, 99), {PROTOCOL}),
    "5.1.1 a stream that the server begins": (frame(HEADERS, b"\x88", END_HEADERS, 2), {PROTOCOL}),
    "5.4.1 HEADERS on stream 0": (frame(HEADERS, b"\x88", END_HEADERS, 0), {PROTOCOL}),
    "6.1 DATA on stream 0": (frame(DATA, b"x", 0, 0), {PROTOCOL}),
    "6.1 padding longer than DATA": (OK + frame(DATA, b"\xffx", PADDED, 1), {PROTOCOL}),
    "6.2 padding longer than HEADERS": (frame(HEADERS, b"\xff\x88", PADDED | END_HEADERS, 1), {PROTOCOL}),
    "6.3 PRIORITY on stream 0": (frame(PRIORITY, bytes(5), 0, 0), {PROTOCOL}),
    "6.4 RST_STREAM on stream 0": (frame(RST_STREAM, bytes(4), 0, 0), {PROTOCOL}),
    "6.4 RST_STREAM of 3 bytes": (frame(RST_STREAM, bytes(3), 0, 1), {SIZE}),
    "6.5 SETTINGS on a stream": (frame(SETTINGS, b"", 0, 1), {PROTOCOL}),
    "6.5 SETTINGS of 5 bytes": (frame(SETTINGS, bytes(5)), {SIZE}),
    "6.5 an ACK with a payload": (frame(SETTINGS, bytes(6), ACK), {SIZE}),
    "6.5.2 ENABLE_PUSH from a server": (settings((2, 1)), {PROTOCOL}),
    "6.5.2 INITIAL_WINDOW_SIZE above 2^31-1": (settings((4, 1 << 31)), {FLOW}),
    "6.5.2 MAX_FRAME_SIZE below 16384": (settings((5, 16383)), {PROTOCOL}),
    "6.5.2 MAX_FRAME_SIZE above 2^24-1": (settings((5, 1 << 24)), {PROTOCOL}),
    "6.6 PUSH_PROMISE, which was disabled": (
        frame(PUSH_PROMISE, struct.pack(">I", 2) + b"\x82", END_HEADERS, 1), {PROTOCOL},
    ),
    "6.7 PING on a stream": (frame(PING, bytes(8), 0, 1), {PROTOCOL}),
    "6.7 PING of 7 bytes": (frame(PING, bytes(7)), {SIZE}),
    "6.8 GOAWAY on a stream": (frame(GOAWAY, bytes(8), 0, 1), {PROTOCOL}),
    "6.9 WINDOW_UPDATE of 3 bytes": (frame(WINDOW_UPDATE, bytes(3)), {SIZE}),
    "6.9 WINDOW_UPDATE by 0": (frame(WINDOW_UPDATE, bytes(4)), {PROTOCOL}),
    "6.9.1 a connection's window above 2^31-1": (frame(WINDOW_UPDATE, struct.pack(">I", 0x7FFFFFFF)), {FLOW}),
    "6.10 CONTINUATION without HEADERS": (frame(CONTINUATION, b"\x88", END_HEADERS, 1), {PROTOCOL}),
    "6.10 CONTINUATION behind END_HEADERS": (OK + frame(CONTINUATION, b"", END_HEADERS, 1), {PROTOCOL}),
    "10.5 a flood of SETTINGS": (settings((3, 100)) * 5000, {CALM}),
    "10.5 a flood of PING": (frame(PING, bytes(8)) * 30_000, {CALM}),
    "10.5 a flood of empty DATA": (OK + frame(DATA, b"", 0, 1) * 30_000, {CALM}),
    "10.5 a flood of resets of a stream that is over": (WHOLE + frame(RST_STREAM, bytes(4), 0, 1) * 30_000, {CALM}),
    "10.5 a flood of heads of a stream that is over": (WHOLE + head(("a", "1")) * 30_000, {CALM}),
    "10.5 a flood of CONTINUATION": (head(STATUS, flags=0) + frame(CONTINUATION, b"", 0, 1) * 1000, {CALM}),
    # 0x40: a field that is added to the table; 0xbe: it again, in one byte
    "10.5 a bomb of indexed fields": (
        frame(HEADERS, b"\x88\x40\x01a" + b"\x7f\xa1\x1e" + b"b" * 4000, 0, 1)
        + frame(CONTINUATION, b"\xbe" * 16000, END_HEADERS, 1), {CALM},
    ),
}  # fmt: skip
RESETS: dict[str, tuple[bytes, set[int]]] = {
    "5.1 DATA before a head": (frame(DATA, b"x", 0, 1), {PROTOCOL, CLOSED}),
    "6.9 WINDOW_UPDATE by 0 on a stream": (frame(WINDOW_UPDATE, bytes(4), 0, 1), {PROTOCOL}),
    "6.9.1 a stream's window above 2^31-1": (frame(WINDOW_UPDATE, struct.pack(">I", 0x7FFFFFFF), 0, 1), {FLOW}),
    "8.1 no head at all": (frame(DATA, b"", END_STREAM, 1), {PROTOCOL, CLOSED}),
    "8.1 trailers without an end": (OK + head(("a", "1")), {PROTOCOL}),
    "8.1 a pseudo-header field in trailers": (OK + head(STATUS, flags=END_HEADERS | END_STREAM), {PROTOCOL}),
    "8.1 a final head that is interim": (head((":status", "103"), flags=END_HEADERS | END_STREAM), {PROTOCOL}),
    "8.1.1 more than content-length": (head(STATUS, ("content-length", "1")) + frame(DATA, b"ok", 0, 1), {PROTOCOL}),
    "8.1.1 less than content-length": (
        head(STATUS, ("content-length", "3")) + frame(DATA, b"ok", END_STREAM, 1), {PROTOCOL},
    ),
    "8.1.1 nothing where content-length says more": (
        head(STATUS, ("content-length", "3"), flags=END_HEADERS | END_STREAM), {PROTOCOL},
    ),
    "8.1.1 two lengths": (head(STATUS, ("content-length", "2"), ("content-length", "2")), {PROTOCOL}),
    "8.1.1 a body with 204": (head((":status", "204")) + frame(DATA, b"ok", END_STREAM, 1), {PROTOCOL}),
    "8.2 a capital letter": (head(STATUS, ("A", "1")), {PROTOCOL}),
    "8.2.1 CR LF in a value": (head(STATUS, ("a", "1\r\nset-cookie: b=2")), {PROTOCOL}),
    "8.2.1 NUL in a value": (head(STATUS, ("a", "\0")), {PROTOCOL}),
    "8.2.1 a space in a name": (head(STATUS, ("a b", "1")), {PROTOCOL}),
    "8.2.1 a space before a value": (head(STATUS, ("a", " 1")), {PROTOCOL}),
    "8.2.2 connection": (head(STATUS, ("connection", "close")), {PROTOCOL}),
    "8.2.2 transfer-encoding": (head(STATUS, ("transfer-encoding", "chunked")), {PROTOCOL}),
    "8.2.2 te": (head(STATUS, ("te", "trailers")), {PROTOCOL}),
    "8.3 no :status": (head(("a", "1")), {PROTOCOL}),
    "8.3 two of them": (head(STATUS, STATUS), {PROTOCOL}),
    "8.3 :status behind a field": (head(("a", "1"), STATUS), {PROTOCOL}),
    "8.3 a pseudo-header field of requests": (head(STATUS, (":path", "/")), {PROTOCOL}),
    "8.3.2 a :status of four digits": (head((":status", "2000")), {PROTOCOL}),
    "8.6 101": (head((":status", "101")), {PROTOCOL}),
    "10.5.1 a head of 70,000 bytes": (
        frame(HEADERS, block(STATUS, ("a", "b" * 16000)), 0, 1)
        + b"".join(frame(CONTINUATION, block(("a", "b" * 16000)), 4 * (i == 3), 1) for i in range(4)), {PROTOCOL},
    ),
    "15.2 too many interim responses": (head((":status", "103")) * 17, {PROTOCOL}),
}  # fmt: skip
FIRST = {
    "3.4 no SETTINGS first": frame(PING, bytes(8)),
    "3.4 an ACK first": frame(SETTINGS, b"", ACK),
    "3.4 HTTP/1.1": b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\n\r\n",
    "3.4 nothing": b"",
}
FINE = {
    "5.5 an unknown frame": frame(99, b"what", 255, 0) + frame(99, b"what", 255, 1),
    "6.5.2 an unknown setting": settings((999, 1)),
    "6.7 PING": frame(PING, b"12345678"),
    "6.3 PRIORITY": frame(PRIORITY, bytes(5), 0, 1),
    "6.9 WINDOW_UPDATE": frame(WINDOW_UPDATE, struct.pack(">I", 1)),
    "6.1 padding": head((":status", "103")) + frame(PING, bytes(8)),
}


def moved(frames: bytes, stream: bytes) -> bytes:
    """What was written for stream 1, on another one."""
    found, at = b"", 0
    while at < len(frames):
        start, length = frames[at : at + 9], int.from_bytes(frames[at : at + 3], "big")
        found += (start[:5] + stream if start[5:] == b"\0\0\0\1" else start) + frames[at + 9 : at + 9 + length]
        at += 9 + length
    return found


class Misbehaving(Acceptor):
    """Answers a request for /case with the frames of `case`, and every other request well.

    `first` is sent in place of the SETTINGS of the next connection; `goaways` and `resets` are what the gateway says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = "misbehaving"
        self.case = b""
        self.first: bytes | None = None
        self.goaways: list[int] = []
        self.resets: list[int] = []

    def serve(self, connection: socket.socket, number: int) -> None:  # noqa: ARG002
        """Serve a connection."""
        first, self.first = self.first, None
        reader = connection.makefile("rb")
        with contextlib.closing(reader):
            assert reader.read(len(PREFACE)) == PREFACE
            connection.sendall(settings((3, 1)) if first is None else first)
            if first is not None:
                return
            decoder = Decoder()
            while start := reader.read(9):
                payload = reader.read(int.from_bytes(start[:3], "big"))
                kind, stream = start[3], start[5:]
                if kind == HEADERS:
                    fields = {str(name): str(value) for name, value in decoder.decode(payload)}
                    connection.sendall(moved(self.case if fields[":path"] == "/case" else WHOLE, stream))
                elif kind == GOAWAY:
                    self.goaways.append(int.from_bytes(payload[4:8], "big"))
                elif kind == RST_STREAM:
                    self.resets.append(int.from_bytes(payload, "big"))


@pytest.fixture(scope="module")
def server() -> Iterator[Misbehaving]:
    with Misbehaving() as started:
        yield started


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, server: Misbehaving) -> Iterator[GatewayProcess]:
    description = site([server], h2=True, retries={"attempts": 0})
    description["frontends"][0]["http2"] = True
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), description) as started:
        yield started


def ask(gateway: GatewayProcess, server: Misbehaving, case: bytes) -> tuple[int, bytes, bool]:
    """Let the server answer a request with a case: (status, body, whether the response was whole)."""
    server.case = case
    server.goaways.clear()
    server.resets.clear()
    with Http2Client(gateway.port) as client:
        answer = client.get("/case")
    return answer.status, answer.body, answer.ended


def is_served(gateway: GatewayProcess) -> None:
    """The next client is."""
    with RawClient(gateway.port) as client:
        assert client.get("/").status == 200


@pytest.mark.parametrize("case", GOAWAYS)
def test_errors_of_the_connection(gateway: GatewayProcess, server: Misbehaving, case: str) -> None:
    frames, codes = GOAWAYS[case]
    status, _, whole = ask(gateway, server, frames)
    assert status == 502 or not whole or frames.startswith(WHOLE)
    eventually(lambda: server.goaways, "a GOAWAY")
    assert set(server.goaways) <= codes
    is_served(gateway)


@pytest.mark.parametrize("case", RESETS)
def test_errors_of_a_stream(gateway: GatewayProcess, server: Misbehaving, case: str) -> None:
    frames, codes = RESETS[case]
    status, _, whole = ask(gateway, server, frames)
    assert status == (204 if "204" in case else 502) or not whole
    eventually(lambda: server.resets or set(server.goaways) & codes, "a RST_STREAM")
    assert set(server.resets) <= codes
    is_served(gateway)


def test_what_is_no_http2(tmp_path: Path) -> None:
    with Misbehaving() as server:
        description = site([server], h2=True, retries={"attempts": 0})
        with GatewayProcess(tmp_path, description) as gateway, RawClient(gateway.port) as client:
            for case, text in FIRST.items():
                server.first = text
                assert client.get("/").status == 502, case
            assert "http2_not_spoken" in gateway.log
            assert client.get("/").status == 200


@pytest.mark.parametrize("case", FINE)
def test_what_is_fine(gateway: GatewayProcess, server: Misbehaving, case: str) -> None:
    assert ask(gateway, server, FINE[case] + WHOLE) == (200, b"ok", True)
