"""Requests cut anywhere, and generated ones, through the sockets of a real gateway."""

import contextlib
import socket
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.observe import Answer, dechunk, split
from tests.conformance.recorder import Arrival, Recorder
from tests.support.gateway_process import GatewayProcess, site
from tests.support.kernel import send_and_wait
from tests.support.others import KNOWN, Message, h11s, llhttp, ours
from tests.wire.messages import damaged, requests

Setup = tuple[GatewayProcess, Recorder]
Content = tuple[bytes, bytes]  # a request line and a decoded body

GET = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"
CUT = {
    "a length": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello\r\n\r\nyou",
    "chunks": b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0c\r\n\r\n0\r\n\r\nworld\r\n000\r\nX-Sum: 1\r\n\r\n",
    "an empty line first": b"\r\n" + GET,
    "three in a row": GET + b"POST /y HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + GET,
    "credentials of a connection": b"GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM TlRMTVNTUAAB\r\n\r\n" + GET,
    "slashes and escapes": b"GET //a/%2e/./%7Eb/../c HTTP/1.1\r\nHost: a\r\nForwarded: for=192.0.2.1;proto=https\r\n\r\n"
    + GET,
    "counted down": b"OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\n\r\n" + GET,
    "answered here": b"OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n" + GET,
    "both lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + GET,
    "a bad chunk at the end": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\n\r\n"
    + GET,
    "a folded line": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
}


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    directory = tmp_path_factory.mktemp("splits")
    with Recorder() as recorder:
        description = site([])
        description["backends"] = {"app": {"servers": [recorder.address]}}
        with GatewayProcess(directory, description) as gateway:
            yield gateway, recorder


def send(setup: Setup, pieces: Sequence[bytes], method: str = "GET") -> tuple[list[int], list[Content]]:
    """Send pieces, each read on its own, then the end; return the statuses and what reached the server in full.

    `method` is that of the first request.
    """
    gateway, recorder = setup
    recorder.clear()
    received = b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5.0) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # One that was refused may be closed before the rest is sent.
        with contextlib.suppress(OSError):
            for piece in pieces[:-1]:
                send_and_wait(client, piece)
            client.sendall(pieces[-1])
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(1 << 16):
                received += piece
    answers: list[Answer] = list(split(received, [method], ended=True))
    # An answer from here to what is no request, such as a HEAD with a broken body, may look cut off.
    assert all(answer.whole or answer.status >= 400 for answer in answers), received
    return [answer.status for answer in answers], [content(arrival) for arrival in recorder.arrivals if arrival.whole]


def content(arrival: Arrival) -> Content:
    """Return what an arrival says, whatever the chunks it came in."""
    chunked = b"Transfer-Encoding: chunked" in arrival.fields
    return arrival.line, dechunk(arrival.body)[0] if chunked else arrival.body


@pytest.mark.parametrize("data", CUT.values(), ids=CUT)
def test_a_request_means_the_same_wherever_it_is_cut(setup: Setup, data: bytes) -> None:
    whole = send(setup, [data])
    assert whole[0]
    for cut in range(1, len(data)):
        assert send(setup, [data[:cut], data[cut:]]) == whole, data[:cut]
    assert send(setup, [data[at : at + 1] for at in range(len(data))]) == whole


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Return `data` cut at these places, taken modulo its length."""
    places = sorted({cut % len(data) for cut in cuts} | {0}) if data else [0]
    return [data[start:end] for start, end in zip(places, [*places[1:], len(data)], strict=True)]


@settings(max_examples=150)
@given(st.one_of(requests().map(lambda made: made[0]), damaged(requests())), st.lists(st.integers(0, 400), max_size=3))
def test_what_arrives_is_what_others_read(setup: Setup, data: bytes, cuts: list[int]) -> None:
    mine = ours(data.removeprefix(b"\r\n"))  # one empty line before a request is ignored
    method = "GET"
    if isinstance(mine, Message):
        method = mine.start[0].decode()
        data = data[: len(data) - len(mine.rest)]
    statuses, arrived = send(setup, pieces_of(data, cuts), method)
    if not isinstance(mine, Message) or not mine.complete:
        assert arrived == []
        assert all(status >= 400 for status in statuses)
        return
    if statuses != [200]:
        # Of what can be read, only a path that hides something is refused, and an expectation that is unknown.
        assert statuses in ([400], [417])
        assert arrived == []
        return
    ((line, body),) = arrived
    name, target = mine.start
    assert body == mine.body
    assert line.startswith(name + b" ")
    # The server reads what the client meant, for every reader: the path in its normal form, the query as it came.
    assert line.removesuffix(b" HTTP/1.1").partition(b"?")[2] == target.partition(b"?")[2]
    (arrival,) = (arrival for arrival in setup[1].arrivals if arrival.whole)
    forwarded = arrival.head + arrival.body
    readings = [h11s(forwarded)]
    if name in KNOWN:
        readings.append(llhttp(forwarded))
    for reading in readings:
        assert reading.start[0] == name
        assert reading.body == body
        assert reading.complete
