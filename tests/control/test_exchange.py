"""Two gateways that tell each other of sessions and rates, without a network between them."""

import time
from collections.abc import Callable
from pathlib import Path

from gateway.control.exchange import Exchange
from qos.rates import JOURNAL, RateTable
from qos.sessions import SessionTable, size
from tests.control.sites import KEY, snapshot
from tests.support.waiting import soon

SLOTS = 1024
NODES = {"gw1": "127.0.0.1", "gw2": "127.0.0.2"}


class Node:
    """One gateway's tables and exchange; `qos` as in a site file."""

    def __init__(self, directory: Path, name: str, send: Callable[[bytes], None], key: bytes = KEY) -> None:
        directory.mkdir()
        path = directory / "cluster.key"
        path.touch(0o600)
        path.write_bytes(key)
        self.rates = RateTable(bytearray(64 * 64), bytes(16), bytearray(JOURNAL))
        self.sessions = SessionTable(bytearray(size(SLOTS, SLOTS)), bytes(16), slots=SLOTS, ring=SLOTS)
        self.exchange = Exchange(self.rates, self.sessions, send)
        cluster = {"key_file": "cluster.key", "nodes": NODES, "listen": 7945}
        self.site = snapshot(
            directory,
            {"app": {"servers": ["127.0.0.1:1"]}},
            node=name,
            cluster={**cluster, "heartbeat": {"links": [{"udp": 6940}]}},
            qos={"sessions": {"max": 10}},
        )

    def start(self) -> None:
        self.exchange.apply(self.site)

    def ask(self) -> int:
        """How often one key is let through now, of ten times at once."""
        now = time.monotonic_ns()
        return sum(self.rates.ask(77, 0.001, 10, now) == 0 for _ in range(10))

    @property
    def share(self) -> int | None:
        report = self.exchange.report()
        return report.share if report is not None else None


async def test_gateways_divide_sessions_and_count_keys_together(tmp_path: Path) -> None:
    nodes: list[Node] = []
    nodes.append(Node(tmp_path / "gw1", "gw1", lambda message: nodes[1].exchange.hear(message, "127.0.0.1")))
    nodes.append(Node(tmp_path / "gw2", "gw2", lambda message: nodes[0].exchange.hear(message, "127.0.0.2")))
    one, other = nodes
    for node in nodes:
        node.start()
    await soon(lambda: one.share == other.share == 5, "each to have half")
    assert one.ask() == 10
    await soon(lambda: bool(other.rates.entries()), "the other one to hear of the key")
    assert other.ask() == 0
    await one.exchange.close()
    await soon(lambda: other.share == 10, "the other one to have all")
    report = other.exchange.report()
    assert report is not None
    assert report.silent == ("gw1",)
    await other.exchange.close()


async def test_messages_of_another_cluster_are_refused_and_counted(tmp_path: Path) -> None:
    heard: list[bytes] = []
    one = Node(tmp_path / "gw1", "gw1", heard.append)
    stranger = Node(tmp_path / "gw2", "gw2", lambda message: one.exchange.hear(message, "127.0.0.2"), b"x" * 16)
    one.start()
    stranger.start()
    await soon(lambda: one.exchange.refused["bad signature"] > 1, "its messages to be refused")
    assert heard
    await one.exchange.close()
    await stranger.exchange.close()
