"""Messages between supervisor and children."""

import json
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import Snapshot, load
from gateway.config.address import server_address
from gateway.config.discovery import Member, Question
from gateway.process.channel import (
    MAX_REPORT,
    MAX_REPORTS,
    Answered,
    BadReport,
    ChildEnd,
    Closed,
    Command,
    Discovered,
    Drain,
    Order,
    Packed,
    Ready,
    ReopenLog,
    Report,
    SupervisorEnd,
    pair,
)

Ends = tuple[SupervisorEnd, ChildEnd]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Two connected ends."""
    one, other = pair()
    yield one, other
    one.close()
    other.close()


def frame(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def test_orders_arrive_whole_in_sequence_and_with_their_descriptors(ends: Ends) -> None:
    one, other = ends
    reading, writing = os.pipe()
    one.send(Drain(2.5))
    one.send(ReopenLog(), (writing,))
    one.send(Drain(3.0))
    orders = other.receive()
    assert [order for order, _ in orders] == [Drain(2.5), ReopenLog(), Drain(3.0)]
    assert [len(descriptors) for _, descriptors in orders] == [0, 1, 0]
    os.write(orders[1][1][0], b"here")
    assert os.read(reading, 10) == b"here"
    for descriptor in (*orders[1][1], reading, writing):
        os.close(descriptor)


def test_a_large_order_arrives_in_pieces(ends: Ends) -> None:
    one, other = ends
    large = Drain(1 << 8_000_000)
    sender = threading.Thread(target=one.send, args=(large,))
    sender.start()
    found: list[tuple[Order, list[int]]] = []
    while not found:
        found = other.receive()
    sender.join()
    assert found == [(large, [])]


def test_reports_come_out_as_they_went_in(ends: Ends) -> None:
    one, other = ends
    members = (Member("192.0.2.1", 80, "app.internal:80"), Member("2001:db8::1", 0, "b.internal", 7, backup=True))
    news = {
        Question(server_address("dns:app.internal:80"), "A"): members,
        Question(server_address("dns:_http._tcp.app.internal"), "SRV"): (),
    }
    other.send(Ready(3))
    other.send(Discovered(news))
    assert one.receive() == [Ready(3), Discovered(news)]
    other.send(Command(4, "drain app/app1"))
    assert one.receive() == [Command(4, "drain app/app1")]
    one.send(Answered(4, {"serial": 1}))
    assert other.receive() == [(Answered(4, {"serial": 1}), [])]


def test_a_report_is_the_same_wherever_it_is_cut(ends: Ends) -> None:
    one, other = ends
    sent = frame(b'{"ready": 7}') + frame(b'{"discovered": [["dns:app.internal:80", "A", []]]}')
    expected = [Ready(7), Discovered({Question(server_address("dns:app.internal:80"), "A"): ()})]
    for cut in range(1, len(sent)):
        other.socket.sendall(sent[:cut])
        found = one.receive()
        other.socket.sendall(sent[cut:])
        assert found + one.receive() == expected, cut


def test_a_large_report_arrives_in_pieces_and_one_that_is_too_large_is_not_sent(ends: Ends) -> None:
    one, other = ends
    members = tuple(Member(f"10.0.{i >> 8}.{i & 255}", 80, "h" * 250) for i in range(20_000))
    news = Discovered({Question(server_address("dns:app.internal:80"), "A"): members})
    sender = threading.Thread(target=other.send, args=(news,))
    sender.start()
    found: list[Report] = []
    while not found:
        found = one.receive()
    sender.join()
    assert found == [news]
    too_large = Discovered({Question(server_address("dns:app.internal:80"), "A"): members * 3})
    with pytest.raises(ValueError, match="more than"):
        other.send(too_large)
    other.send(Ready(1))
    assert one.receive() == [Ready(1)]


class Evil:
    """Its pickle runs a program where it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("/nonexistent/evil",)


BAD = [
    frame(pickle.dumps(Evil())),
    len(pickle.dumps(Evil())).to_bytes(8, "big") + b"\0\0" + pickle.dumps(Evil()),
    (MAX_REPORT + 1).to_bytes(4, "big"),
    frame(b""),
    frame(b"{"),
    frame(b"\xff\xfe"),
    frame(b"[" * 200_000),
    frame(b'{"ready":' * 20_000),
    frame(b"[]"),
    frame(b"3"),
    *(frame(json.dumps({"ready": version}).encode()) for version in (None, "3", 3.0, True, 0, -1, 2**60, [3])),
    frame(b'{"ready": 1' + b"0" * 5000 + b"}"),
    frame(b'{"ready": 1, "more": 2}'),
    frame(b'{"discovered": {}, "more": 2}'),
    *(frame(json.dumps({"command": "reload", "number": number}).encode()) for number in (None, "1", True, 0, 2**60)),
    frame(b'{"command": ["reload"], "number": 1}'),
    frame(b'{"command": "reload"}'),
    frame(b'{"command": "reload", "number": 1, "more": 2}'),
    *(
        frame(json.dumps({"discovered": rows}).encode())
        for rows in (
            3,
            {"a": "b"},
            [["dns:app.internal:80", "A"]],
            [["dns:app.internal:80", "ANY", []]],
            [["app internal", "A", []]],
            [["dns:" + "a." * 200 + ":80", "A", []]],
            [["dns:app.internal:80", "A", [["10.0.0.300", 80, "a", None, False]]]],
            [["dns:app.internal:80", "A", [["10.0.0.1\n", 80, "a", None, False]]]],
            [["dns:app.internal:80", "A", [["fe80::1%eth0", 80, "a", None, False]]]],
            [["dns:app.internal:80", "A", [["10.0.0.1", "80", "a", None, False]]]],
            [["dns:app.internal:80", "A", [["10.0.0.1", 65536, "a", None, False]]]],
            [["dns:app.internal:80", "A", [["10.0.0.1", True, "a", None, False]]]],
            [["dns:app.internal:80", "A", [["10.0.0.1", 80, "a\u001b[2J", None, False]]]],
            [["dns:app.internal:80", "A", [["10.0.0.1", 80, "a" * 301, None, False]]]],
            [["dns:app.internal:80", "A", [["10.0.0.1", 80, "a", 257, False]]]],
            [["dns:app.internal:80", "A", [["10.0.0.1", 80, "a", None, 1]]]],
            [["dns:app.internal:80", "A", [["10.0.0.1", 80, "a", None]]]],
        )
    ),
]


@pytest.mark.parametrize("sent", BAD, ids=range(len(BAD)))
def test_a_message_that_is_not_a_report_is_refused_and_never_unpickled(ends: Ends, sent: bytes) -> None:
    one, other = ends
    other.send(Ready(1))
    other.socket.sendall(sent)
    with pytest.raises(BadReport) as found:
        one.receive()
    assert len(str(found.value)) < 100
    assert str(found.value).isprintable()


def test_a_flood_is_a_bad_report(ends: Ends) -> None:
    """The supervisor returns to its other duties, however much a child sends."""
    one, other = ends
    other.socket.sendall(frame(b'{"ready": 1}') * MAX_REPORTS)
    assert len(one.receive()) == MAX_REPORTS
    other.socket.sendall(frame(b'{"ready": 1}') * (MAX_REPORTS + 1))
    with pytest.raises(BadReport, match="more than 1000"):
        one.receive()


def test_descriptors_that_a_child_sends_are_not_kept(ends: Ends) -> None:
    one, other = ends
    reading, writing = os.pipe()
    socket.send_fds(other.socket, [frame(b'{"ready": 1}')], [writing] * 20)
    os.close(writing)
    assert one.receive() == [Ready(1)]
    assert os.read(reading, 1) == b""  # no writer is left
    os.close(reading)


def test_the_end_is_noticed_after_the_last_message(ends: Ends) -> None:
    one, other = ends
    other.send(Ready(1))
    other.close()
    assert one.receive() == [Ready(1)]
    with pytest.raises(Closed):
        one.receive()
    with pytest.raises(Closed):
        one.send(Drain(1.0))


def test_more_descriptors_than_the_kernel_passes_at_once(ends: Ends) -> None:
    one, other = ends
    reading, writing = os.pipe()
    one.send(ReopenLog(), (writing,) * 600)
    one.send(Drain(3.0))
    (first, descriptors), last = other.receive()
    assert (first, last) == (ReopenLog(), (Drain(3.0), []))
    os.write(descriptors[-1], b"here")
    assert os.read(reading, 10) == b"here"
    assert len(set(descriptors)) == 600
    for descriptor in (*descriptors, reading, writing):
        os.close(descriptor)


def test_a_snapshot_arrives_unchanged_and_without_routes_where_none_are_needed(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    lines = [f"  - {{match: {{path: /{i}/}}, respond: {{body: '{i}'}}}}" for i in range(321)]
    lines.append("  - apache: legacy.htaccess")
    (tmp_path / "legacy.htaccess").write_text("RewriteEngine On\nRewriteRule ^a /b [L]\n")
    site.write_text("frontends: [{listen: '127.0.0.1:1'}]\nroutes:\n" + "\n".join(lines))
    snapshot = Snapshot.first(load(site))
    packed = Packed.of(snapshot)
    assert packed.snapshot == snapshot
    assert packed.bare.snapshot == snapshot.with_routes((), {})
    assert len(snapshot.site.routes) == 322
    assert [rules.rules[0].pattern for rules in packed.snapshot.rules.values()] == ["^a"]
