"""What gateways of a cluster tell each other of sessions and rates."""

from collections.abc import Callable

import pytest

from gateway.control.news import MAX_BYTES, MOST, BadNews, Codec, News

KEY = b"0123456789abcdef"
NOW = 1_700_000_000_000_000_000


def test_they_come_as_they_were_sent() -> None:
    news = News("gw1", 12, 3, ((2**64 - 1, 5), (7, -5)))
    (message,) = Codec(KEY).encode(news, NOW)
    assert Codec(KEY).decode(message, NOW) == news


def test_many_keys_take_several_messages() -> None:
    news = News("gw1", 1, 0, tuple((i, i) for i in range(2 * MOST + 1)))
    messages = [*Codec(KEY).encode(news, NOW)]
    reader = Codec(KEY)
    found = [reader.decode(message, NOW) for message in messages]
    assert [len(item.used) for item in found] == [MOST, MOST, 1]
    assert tuple(pair for item in found for pair in item.used) == news.used
    assert max(map(len, messages)) <= 1472  # what one Ethernet frame has room for


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "bad signature"),
        (lambda data: data[:20] + b"\xff" + data[21:], "bad signature"),
        (lambda data: data[:20], "wrong length"),
        (lambda data: data + bytes(MAX_BYTES), "wrong length"),
    ],
)
def test_changed_ones_are_not_believed(change: Callable[[bytes], bytes], why: str) -> None:
    (message,) = Codec(KEY).encode(News("gw1", 1, 2), NOW)
    with pytest.raises(BadNews, match=why):
        Codec(KEY).decode(change(message), NOW)


def test_those_of_another_cluster_are_not_believed() -> None:
    (message,) = Codec(b"another key, as long").encode(News("gw1", 1, 2), NOW)
    with pytest.raises(BadNews, match="bad signature"):
        Codec(KEY).decode(message, NOW)


def test_a_message_counts_once_and_while_it_is_fresh() -> None:
    reader = Codec(KEY)
    (first,) = Codec(KEY).encode(News("gw1", 1, 2), NOW)
    (later,) = Codec(KEY).encode(News("gw1", 1, 2), NOW + 10)
    reader.decode(later, NOW)
    for message in (first, later):
        with pytest.raises(BadNews, match="replayed"):
            reader.decode(message, NOW)
    (of_other,) = Codec(KEY).encode(News("gw2", 1, 2), NOW)
    reader.decode(of_other, NOW)
    with pytest.raises(BadNews, match="not fresh"):
        Codec(KEY).decode(first, NOW + 31 * 10**9)
