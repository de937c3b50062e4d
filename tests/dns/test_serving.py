"""Datagrams at a socket: many at once, long and short ones, and how long a busy server waits for more."""

import socket
import time
from collections.abc import Iterator

import dns.message
import pytest

from gateway.dns.responder import Responder
from tests.dns.zones import KEY, query, table

BATCH = 64
GATHER = 0.2  # seconds
ZONES = {
    "example.org": {
        "ns": "ns.example.net",
        "records": ["a A 192.0.2.1", *(f'big TXT "{i:0250}"' for i in range(12))],
    }
}


class Pair:
    """A server's socket, and a client of it."""

    def __init__(self) -> None:
        self.server = socket.socket(type=socket.SOCK_DGRAM)
        self.server.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self.server.bind(("127.0.0.1", 0))
        self.client = socket.socket(type=socket.SOCK_DGRAM)
        self.client.connect(self.server.getsockname())
        self.client.settimeout(5.0)

    def ask(self, *names: str) -> list[dns.message.QueryMessage]:
        """Send queries, each of another type than the one before; returns them."""
        sent = [query(name, "TXT" if name.startswith("big") else "A", payload=4096) for name in names]
        for one in sent:
            self.client.send(one.to_wire())
        return sent


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    with made.server, made.client:
        yield made


def served(of: Responder, pair: Pair) -> float:
    """Seconds that the server takes for what has come."""
    began = time.monotonic()
    of.serve(pair.server.fileno())
    return time.monotonic() - began


def test_each_of_a_batch_gets_its_own_answer_whatever_the_others_are_long(pair: Pair) -> None:
    of = Responder(table(ZONES).find, KEY)
    of.configure(KEY, limit=4096)
    for _ in range(2):  # made, then kept
        asked = pair.ask(*(("big", "a", "nx")[i % 3] + ".example.org" for i in range(BATCH)))
        served(of, pair)
        for one in asked:
            found = dns.message.from_wire(pair.client.recv(65535))
            assert found.id == one.id
            assert found.question == one.question
            assert len(found.answer) == (not str(one.question[0].name).startswith("nx"))
            if found.answer and str(one.question[0].name).startswith("big"):
                assert len(found.answer[0]) == 12


def test_only_a_busy_server_waits_for_more(pair: Pair) -> None:
    waiting, other = (Responder(table(ZONES).find, KEY, gather=gather) for gather in (int(GATHER * 1e6), 0))
    for of, count, waits in ((waiting, 7, False), (waiting, 8, True), (other, 8, False)):
        asked = pair.ask(*["a.example.org"] * count)
        assert (served(of, pair) >= GATHER) is waits
        assert [dns.message.from_wire(pair.client.recv(65535)).id for _ in asked] == [one.id for one in asked]


def test_a_second_is_too_long_to_wait() -> None:
    with pytest.raises(ValueError, match="less than a second"):
        Responder(table(ZONES).find, KEY, gather=1_000_000)
