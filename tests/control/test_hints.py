"""Two controls of one cluster, each with its own board, on two addresses of the loopback network."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.board import DOWN, UP, Board
from gateway.control.control import Control
from tests.control.sites import KEY, snapshot
from tests.control.soon import soon
from tests.health.serving import serving
from tests.support.waiting import free_port, free_udp_port

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
        await seldom.control.apply(seldom.site)
        await often.control.apply(often.site)
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


async def test_the_control_of_an_upgrade_may_overlap_but_nobody_else(
    nodes: tuple[Node, Node, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    often, seldom, port = nodes
    await often.control.apply(often.site)
    place = often.control._hints._place
    assert place is not None
    successor = Node(tmp_path / "3", "gw1", place[1], ("127.0.0.1", port), "1s")
    await successor.control.apply(successor.site)
    assert successor.control._hints._place == place
    await successor.control.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
        thief.bind(("127.0.0.2", place[1]))
        await seldom.control.apply(seldom.site)
    assert "check results are not shared: cannot listen on 127.0.0.2" in caplog.text


async def test_a_hint_is_not_believed(nodes: tuple[Node, Node, int], caplog: pytest.LogCaptureFixture) -> None:
    often, seldom, port = nodes
    async with serving(nothing, port=port):
        await seldom.control.apply(seldom.site)
        await often.control.apply(often.site)
        seldom.control._hurry(("app", "a"))
        await soon(lambda: seldom.state() == UP, "it is up")
        assert seldom.control._checks is not None
        watch = seldom.control._checks._watches["app", "a"]
        watch._checked, before = 0.0, watch.last
        often.control._hints.send(("app", "a"))
        await soon(lambda: watch.last is not before, "the second to look for itself")
        assert seldom.state() == UP
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            assert seldom.control._hints._place is not None
            stranger.sendto(b"x" * 50, seldom.control._hints._place)
            await soon(lambda: "check hint from 127.0.0.1 refused: bad signature" in caplog.messages, "a refusal")
            for _ in range(3):
                stranger.sendto(b"x" * 50, seldom.control._hints._place)
            stranger.sendto(b"x" * 2000, seldom.control._hints._place)
            refused = seldom.control._hints.refused
            await soon(lambda: refused == {"bad signature": 4, "too long": 1}, "all to be counted")
            assert len([line for line in caplog.messages if "refused: bad signature" in line]) == 1
