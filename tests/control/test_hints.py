"""Two controls of one cluster, each with its own board, on two addresses of the loopback network."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.board import DOWN, UP, Board
from gateway.control.control import Control
from gateway.health.hint import Codec, Hint
from tests.control.sites import KEY, snapshot
from tests.health.serving import serving
from tests.support.waiting import free_port, free_udp_port, soon

NODES = {"gw1": "127.0.0.1", "gw2": "127.0.0.2"}


class Node:
    """One gateway's control."""

    def __init__(self, directory: Path, name: str, port: int, server: tuple[str, int], interval: str) -> None:
        directory.mkdir()
        key = directory / "cluster.key"
        key.touch(0o600)
        key.write_bytes(KEY)
        self.site = snapshot(
            directory,
            {
                "app": {
                    "servers": [{"name": "a", "address": f"{server[0]}:{server[1]}"}],
                    "check": {"tcp": True, "interval": interval, "fall": 1, "rise": 1},
                }
            },
            node=name,
            cluster={
                "key_file": "cluster.key",
                "nodes": NODES,
                "listen": port,
                "heartbeat": {"links": [{"udp": 6940}]},
            },
        )
        self.board = Board()
        self.control = Control(self.board, None, lambda _: None)
        self.place = NODES[name], port

    async def start(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(self.place)
        await self.control.apply(self.site, hints=sock)

    def state(self) -> int:
        return self.board.state(self.site.slots["app", "a"])


async def nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Accept, and close."""


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[tuple[Node, Node, int]]:
    """One that checks often, one that hardly ever does, and the port of their server."""
    server = "127.0.0.1", free_port()
    port = free_udp_port()
    often = Node(tmp_path / "1", "gw1", port, server, "50ms")
    seldom = Node(tmp_path / "2", "gw2", port, server, "40s")
    yield often, seldom, server[1]
    for node in (often, seldom):
        await node.control.close()


async def test_what_one_sees_the_other_looks_at(nodes: tuple[Node, Node, int]) -> None:
    often, seldom, port = nodes
    async with serving(nothing, port=port):
        # The first check of the second comes within ten seconds: not waited for, but asked for by a hint.
        await seldom.start()
        await often.start()
        await soon(lambda: often.state() == UP, "the first sees it up")
        seldom.control._hurry(("app", "a"))
        await soon(lambda: seldom.state() == UP, "so does the second")
        assert seldom.control._checks is not None
        seldom.control._checks._watches["app", "a"]._checked = 0.0  # long ago: a check just made would do
    await soon(lambda: often.state() == DOWN, "the first sees it down")
    await soon(lambda: seldom.state() == DOWN, "so does the second, long before its own time")
    seldom.control._checks._watches["app", "a"]._checked = 0.0
    async with serving(nothing, port=port):
        await soon(lambda: often.state() == UP, "the first sees it back")
        await soon(lambda: seldom.state() == UP, "so does the second")


async def test_a_reload_that_does_not_move_the_port_keeps_the_socket(nodes: tuple[Node, Node, int]) -> None:
    often, seldom, port = nodes
    async with serving(nothing, port=port):
        await seldom.start()
        await often.start()
        await seldom.control.apply(seldom.site)
        await soon(lambda: often.state() == UP, "the first sees it up")
        await soon(lambda: seldom.state() == UP, "so does the second")


async def test_a_replayed_hint_is_refused(nodes: tuple[Node, Node, int]) -> None:
    _, seldom, _ = nodes
    await seldom.start()
    message = Codec(KEY).encode(Hint("app", "a", "10.0.0.1:1"), time.time_ns())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as recorder:
        for _ in range(3):
            recorder.sendto(message, seldom.place)
    await soon(lambda: seldom.control._hints.refused == {"replayed": 2}, "two to be refused")


async def test_a_hint_is_not_believed(nodes: tuple[Node, Node, int], caplog: pytest.LogCaptureFixture) -> None:
    often, seldom, port = nodes
    async with serving(nothing, port=port):
        await seldom.start()
        await often.start()
        seldom.control._hurry(("app", "a"))
        await soon(lambda: seldom.state() == UP, "it is up")
        assert seldom.control._checks is not None
        watch = seldom.control._checks._watches["app", "a"]
        watch._checked, before = 0.0, watch.last
        often.control._hints.send(("app", "a"))
        await soon(lambda: watch.last is not before, "the second to look for itself")
        assert seldom.state() == UP
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"x" * 50, seldom.place)
            await soon(lambda: "check hint from 127.0.0.1 refused: bad signature" in caplog.messages, "a refusal")
            for _ in range(3):
                stranger.sendto(b"x" * 50, seldom.place)
            stranger.sendto(b"x" * 2000, seldom.place)
            refused = seldom.control._hints.refused
            await soon(lambda: refused == {"bad signature": 4, "too long": 1}, "all to be counted")
            assert len([line for line in caplog.messages if "refused: bad signature" in line]) == 1
