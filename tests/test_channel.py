"""Messages between supervisor and children."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.channel import Channel, Closed, Drain, Message, Packed, Ready, ReopenLog
from gateway.config import Snapshot, load

Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two connected ends."""
    one, other = Channel.pair()
    yield one, other
    one.close()
    other.close()


def test_messages_arrive_whole_in_order_and_with_their_descriptors(pair: Pair) -> None:
    one, other = pair
    reading, writing = os.pipe()
    one.send(Drain(2.5))
    one.send(ReopenLog(), (writing,))
    one.send(Ready(3))
    messages = other.receive()
    assert [message for message, _ in messages] == [Drain(2.5), ReopenLog(), Ready(3)]
    assert [len(descriptors) for _, descriptors in messages] == [0, 1, 0]
    os.write(messages[1][1][0], b"here")
    assert os.read(reading, 10) == b"here"


def test_a_large_message_arrives_in_pieces(pair: Pair) -> None:
    one, other = pair
    large = Ready(1 << 8_000_000)
    sender = threading.Thread(target=one.send, args=(large,))
    sender.start()
    found: list[tuple[Message, list[int]]] = []
    while not found:
        found = other.receive()
    sender.join()
    assert found == [(large, [])]


def test_the_end_is_noticed_after_the_last_message(pair: Pair) -> None:
    one, other = pair
    one.send(Ready(1))
    one.close()
    assert other.receive() == [(Ready(1), [])]
    with pytest.raises(Closed):
        other.receive()
    with pytest.raises(Closed):
        other.send(Ready(2))


def test_more_descriptors_than_the_kernel_passes_at_once(pair: Pair) -> None:
    one, other = pair
    reading, writing = os.pipe()
    one.send(ReopenLog(), (writing,) * 600)
    one.send(Ready(3))
    (first, descriptors), last = other.receive()
    assert (first, last) == (ReopenLog(), (Ready(3), []))
    os.write(descriptors[-1], b"here")
    assert os.read(reading, 10) == b"here"
    assert len(set(descriptors)) == 600
    for descriptor in (*descriptors, reading, writing):
        os.close(descriptor)


def test_a_snapshot_comes_out_as_it_went_in_and_without_routes_for_those_who_need_none(tmp_path: Path) -> None:
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
