import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.board import DOWN, DRAIN, MAINTENANCE, READY, UNKNOWN, UP, Board
from gateway.control.agents import Agents
from gateway.control.publisher import Publisher
from gateway.health.agent import Line, Question, parse
from gateway.health.result import Outcome, Result
from tests.control.sites import snapshot
from tests.support.waiting import soon

AGENT = {"connect": 8081, "interval": "10ms"}
SERVERS = [{"name": "a", "address": "127.0.0.1:1"}, {"name": "b", "address": "127.0.0.2:1", "weight": 10}]


class Voices:
    """In place of real agents: lines by address, None where none answers; counts the questions."""

    def __init__(self) -> None:
        self.lines: dict[str, bytes | None] = {}
        self.asked: Counter[Question] = Counter()

    async def ask(self, question: Question) -> tuple[Result, Line | None]:
        self.asked[question] += 1
        await asyncio.sleep(0)
        line = self.lines.get(question.address[0])
        if line is None:
            return Result(Outcome.TCP_CONNECT_REFUSED, 0.0), None
        return Result(Outcome.OK, 0.0), parse(line)


class Bench:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.board = Board()
        self.publisher = Publisher(self.board, 0.0)
        self.voices = Voices()
        self.agents = Agents(self.board, self.publisher, self.voices.ask)
        self.now = 0.0

    async def apply(self, **backend: object) -> None:
        self.site = snapshot(self.directory, {"app": {"servers": SERVERS, "agent": AGENT, **backend}})
        self.slots = {key[1]: slot for key, slot in self.site.slots.items()}
        self.publisher.apply(self.site)
        await self.agents.apply(self.site)

    async def hear(self, **lines: bytes | None) -> None:
        """Let every agent be asked at least once more, begun and ended after this."""
        self.voices.lines.update({"127.0.0.1": lines["a"]} if "a" in lines else {})
        self.voices.lines.update({"127.0.0.2": lines["b"]} if "b" in lines else {})
        due = {question: self.voices.asked[question] + 2 for question in self.voices.asked}
        await soon(lambda: all(self.voices.asked[question] >= count for question, count in due.items()), "questions")

    def weights(self) -> list[float]:
        self.publisher.tick(asyncio.get_running_loop().time())
        return [self.board.weight(slot) for slot in self.slots.values()]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    running = Bench(tmp_path)
    await running.apply()
    await soon(lambda: len(running.voices.asked) == 2, "both agents are asked")
    yield running
    await running.agents.close()
    assert len(asyncio.all_tasks()) == 1


async def test_the_servers_that_it_queries(bench: Bench) -> None:
    assert {question.address for question in bench.voices.asked} == {("127.0.0.1", 8081), ("127.0.0.2", 8081)}


async def test_shares_are_weights_at_once(bench: Bench) -> None:
    assert bench.weights() == [1.0, 10.0]
    await bench.hear(a=b"75%", b=b"40%")
    assert bench.weights() == [0.75, 4.0]
    assert bench.board.load(bench.slots["a"]) == pytest.approx(0.25)
    await bench.apply(agent={**AGENT, "stale_after": "50ms"})
    await bench.hear(a=None)
    await soon(lambda: bench.weights() == [0.4, 4.0], "who is silent gets what the others want")


async def test_no_share_is_a_drain_but_not_a_set_admin_state(bench: Bench) -> None:
    slot = bench.slots["a"]
    await bench.hear(a=b"0%")
    assert (bench.board.admin(slot), bench.board.asked(slot)) == (DRAIN, READY)
    await bench.hear(a=b"30%")
    assert bench.board.admin(slot) == READY
    await bench.hear(a=b"drain")
    await bench.hear(a=b"100%")
    assert bench.board.admin(slot) == DRAIN  # until it says ready
    await bench.hear(a=b"maint")
    assert bench.board.admin(slot) == MAINTENANCE
    await bench.hear(a=b"ready")
    assert bench.board.admin(slot) == READY


async def test_down_is_down_whatever_checks_find(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    slot = bench.slots["a"]
    bench.board.set_state(slot, UP)
    await bench.hear(a=b"down # upgrading")
    assert (bench.board.state(slot), bench.board.checked(slot)) == (DOWN, UP)
    assert bench.board.state(bench.slots["b"]) == UNKNOWN
    await bench.hear(a=b"up")
    assert bench.board.state(slot) == UP
    bench.board.set_state(slot, DOWN)
    await bench.hear(a=b"up")
    assert bench.board.state(slot) == DOWN
    said = [message for message in caplog.messages if "its agent reports" in message]
    assert said[0] == "server app/a: its agent reports DOWN: upgrading"


async def test_a_limit_goes_to_the_board_and_silence_keeps_everything(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    slot = bench.slots["a"]
    await bench.hear(a=b"maxconn:30 down drain")
    await bench.hear(a=None)
    assert (bench.board.limit(slot), bench.board.state(slot), bench.board.admin(slot)) == (30, DOWN, DRAIN)
    refused = "server app/a: cannot query its agent: TCP_CONNECT_REFUSED (0 ms)"
    assert caplog.messages.count(refused) == 1  # once, however often it is asked


async def test_an_agent_that_is_asked_no_more_is_forgotten(bench: Bench) -> None:
    slot = bench.slots["a"]
    await bench.hear(a=b"maxconn:30 down drain 0%")
    await bench.apply(agent={})
    board = bench.board
    assert (board.limit(slot), board.state(slot), board.admin(slot)) == (0, UNKNOWN, READY)
