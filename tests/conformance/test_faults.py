"""Every case of the table through a real gateway: what the client gets, and what really reached the server."""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest

from tests.conformance.cases import CASES, Arrived, Case
from tests.conformance.observe import LAST, converse, unharmed
from tests.conformance.recorder import Arrival, Recorder
from tests.support import hardened
from tests.support.connections import clients_of
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import LIMIT, RawClient
from tests.support.raw_server import RawServer
from tests.support.waiting import eventually

Setup = tuple[GatewayProcess, Recorder]


def site_before(recorder: Recorder) -> dict[str, Any]:
    """The site of the table: its rules, and limits that are soon reached."""
    description = site([])
    description["frontends"][0] |= {"limits": {"idle_timeout": "2s"}, "encoded_slashes": True}
    description["backends"] = {"app": {"servers": [recorder.address]}}
    description["routes"] = [
        {"match": {"path": "/admin"}, "respond": {"status": 403, "body": "no"}},
        {"match": {"path": "/go/"}, "redirect": "/new/{path_rest}"},
        {"backend": "app"},
    ]
    return description


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    directory = tmp_path_factory.mktemp("faults")
    with Recorder() as recorder, GatewayProcess(directory, site_before(recorder)) as gateway:
        yield gateway, recorder


def check_arrival(arrival: Arrival, wanted: Arrived) -> None:
    """Raise AssertionError unless the server got what it should."""
    assert (arrival.line, arrival.body) == (wanted.line, wanted.body)
    for line in wanted.fields:
        assert arrival.fields.count(line) == 1, arrival.head
    names = [line.partition(b":")[0].lower() for line in arrival.fields]
    assert len({b"host", b"content-length", b"transfer-encoding"} & set(names)) == sum(
        names.count(name) for name in (b"host", b"content-length", b"transfer-encoding")
    ), arrival.head
    assert not set(wanted.without) & set(names), arrival.head


@pytest.mark.parametrize("number, case", list(enumerate(CASES)), ids=[str(case) for case in CASES])
def test_fault(setup: Setup, number: int, case: Case) -> None:
    gateway, recorder = setup
    recorder.clear(case.reply)
    seen = converse(gateway.port, case.data if case.closes else case.data + LAST, case.methods)
    assert seen.statuses == (case.statuses if case.closes else (*case.statuses, 200)), seen.data[:500]
    assert seen.closed
    assert all(answer.whole for answer in seen.answers) == case.whole
    # A connection that goes on goes on with the next request, not with a part of this one.
    if not case.closes:
        assert seen.answers[-1].body == b"GET /probe/last"
    finished = [arrival for arrival in recorder.requests() if arrival.whole]
    assert len(recorder.requests()) <= 1
    if case.arrived is not None:
        assert len(finished) == len(case.arrived), finished
        for arrival, wanted in zip(finished, case.arrived, strict=True):
            check_arrival(arrival, wanted)
    for text in case.never:
        assert text not in seen.data
        assert not any(text in arrival.head + arrival.body for arrival in recorder.arrivals)
    for text in case.seen:
        assert text in seen.data
    assert unharmed(gateway.port, number)


def test_what_is_too_large_is_not_kept(setup: Setup) -> None:
    gateway, _ = setup
    worker = psutil.Process(gateway.workers()[0])
    large = [case for case in CASES if case.family == 15 and len(case.data) > 500_000]
    before = worker.memory_info().rss
    for case in large * 10:
        converse(gateway.port, case.data)
    assert worker.memory_info().rss - before < (1 << 20) + hardened.KEPT


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2 (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A field of a header block, neither indexed nor compressed (RFC 7541 section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
REQUEST = b"\x82\x84\x86" + literal(b":authority", b"a")
HTTP2_FAULTS = {
    "23 splitting value": frame(1, 5, 1, REQUEST + literal(b"x", b"b\r\ntransfer-encoding: chunked")),
    "23 splitting path": frame(1, 5, 1, b"\x82\x86" + literal(b":path", b"/ HTTP/1.1\r\nHost: b\r\n\r\n")),
    "23 length 0 and data": frame(1, 4, 1, REQUEST + literal(b"content-length", b"0")) + frame(0, 1, 1, b"GET / "),
    "24 rapid reset": b"".join(frame(1, 5, n, REQUEST) + frame(3, 0, n, bytes(4)) for n in range(1, 6001, 2)),
    "24 window of 0": frame(1, 5, 1, REQUEST) + frame(8, 0, 1, bytes(4)) * 3000,
    "25 continuation": frame(1, 0, 1, REQUEST) + frame(9, 0, 1, literal(b"x", b"y" * 100)) * 30_000,
    "25 ping": frame(6, 0, 0, bytes(8)) * 30_000,
    "25 settings": frame(4, 0, 0) * 30_000,
    "25 empty data": frame(1, 4, 1, REQUEST) + frame(0, 0, 1) * 30_000,
}


@pytest.mark.parametrize("data", HTTP2_FAULTS.values(), ids=HTTP2_FAULTS.keys())
def test_http2_where_it_is_not_spoken(setup: Setup, data: bytes) -> None:
    """One refusal at the preface, whatever follows: no server hears of it, nothing is kept."""
    gateway, recorder = setup
    recorder.clear(None)
    worker = psutil.Process(gateway.workers()[0])
    before = 0
    for number in range(6):
        if number == 1:  # the first one warms up
            before = worker.memory_info().rss
        with RawClient(gateway.port) as client:
            with contextlib.suppress(ConnectionError):
                client.send(PREFACE + data)
            answer = client.read()
            assert answer == b"" or answer.startswith(b"HTTP/1.1 505 "), answer
            assert answer.count(b"\r\nDate: ") <= 1
    assert recorder.requests() == []
    assert worker.memory_info().rss - before < (1 << 20) + hardened.KEPT
    assert unharmed(gateway.port, 1)


def test_slow_heads_have_a_limit_on_the_whole(start_gateway: Callable[[Site], GatewayProcess]) -> None:
    """500 clients, each a byte at a time and never silent for long: the time counts from the first byte."""
    with Recorder() as recorder, ExitStack() as stack:
        description = site_before(recorder)
        limits = {"header_timeout": "1s", "connections_per_source": 1000}
        description["frontends"][0]["limits"] = limits
        gateway = start_gateway(description)
        worker = psutil.Process(gateway.workers()[0])
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT))
            for _ in range(500)
        ]
        eventually(lambda: len(clients_of(worker.pid, gateway.port)) == len(slow), "the worker to accept them all")
        before = worker.memory_info().rss
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            for client in slow:
                with contextlib.suppress(OSError):
                    client.send(b"G")
            assert unharmed(gateway.port, 0)
        assert worker.memory_info().rss - before < 500 * 4096 + hardened.KEPT
        for client in slow:
            # The bytes of a client that goes on after the end may break the answer: closed it is in any case.
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(100)[:12] in {b"HTTP/1.1 408", b"HTTP/1.1 400", b""}
        assert recorder.requests() == []


def test_a_reader_who_stops_is_given_up(start_gateway: Callable[[Site], GatewayProcess]) -> None:
    """100 MB for a client that reads nothing: the server is not read ahead, and both connections end."""
    sent: list[int] = []

    def script(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                connection.sendall(b"x" * 100_000)
                sent.append(100_000)
        ended.set()

    ended = threading.Event()
    with RawServer(script) as server:
        description = site([])
        description["backends"] = {"app": {"servers": [server.address]}}
        description["frontends"][0]["limits"] = {"idle_timeout": "500ms"}
        gateway = start_gateway(description)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", gateway.port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert ended.wait(20.0)
            assert sum(sent) < 50_000_000


def test_a_server_that_closes_as_the_request_arrives(start_gateway: Callable[[Site], GatewayProcess]) -> None:
    """A GET is sent again and succeeds; a POST is executed once or not at all, and never twice."""
    executed: Counter[bytes] = Counter()

    def script(connection: socket.socket, head: bytes) -> None:
        executed[head.partition(b" HTTP/")[0]] += 1
        # Keep-alive, it says, and closes: the next request may be under way already.
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with RawServer(script) as server:
        description = site([])
        description["backends"] = {"app": {"servers": [server.address]}}
        gateway = start_gateway(description)
        statuses = []
        with RawClient(gateway.port) as client:
            for number in range(300):
                assert client.get(f"/get/{number}").status == 200
                data = f"POST /post/{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
                statuses.append(client.ask(data.encode()).status)
        posts = {line: count for line, count in executed.items() if line.startswith(b"POST")}
        assert set(posts.values()) == {1}
        assert len(posts) >= statuses.count(200)
        assert set(statuses) <= {200, 502}


def test_none_of_it_is_an_error_in_the_log(setup: Setup) -> None:
    gateway, _ = setup
    assert "ERROR" not in gateway.log
    assert "Traceback" not in gateway.log
