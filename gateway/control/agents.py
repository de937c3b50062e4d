"""The text agents of a site: one task queries each server's agent, and passes the result to the publisher."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from gateway.board import UNKNOWN, Board
from gateway.config.snapshot import ServerKey, Snapshot
from gateway.control.publisher import Publisher
from gateway.control.tasks import keep_running, replan, stop
from gateway.health.agent import Line, Question, ask
from gateway.health.result import Outcome, Result

_log = logging.getLogger("gateway.control")

Plan = tuple[int, Question, float]  # slot, question, interval in seconds
Ask = Callable[[Question], Awaitable[tuple[Result, Line | None]]]
_SPREAD: Final = 0.1  # of the interval


class Agents:
    """Queries the agents of the newest snapshot."""

    def __init__(self, board: Board, publisher: Publisher, asks: Ask = ask) -> None:
        self._board = board
        self._publisher = publisher
        self._ask = asks
        self.last: dict[ServerKey, Result] = {}
        self._running: dict[ServerKey, tuple[Plan, asyncio.Task[None]]] = {}

    async def apply(self, snapshot: Snapshot) -> None:
        """Follow a snapshot. The data of agents that are no longer queried is discarded."""
        plans = _plans(snapshot)
        for key, slot in snapshot.slots.items():
            if key not in plans:
                self._publisher.forget_agent(key, asked=key in self._running)
                self._board.set_told(slot, UNKNOWN)
                self._board.set_limit(slot, 0)
        await replan(self._running, plans, self._start)
        self.last = {key: result for key, result in self.last.items() if key in plans}

    async def close(self) -> None:
        """Stop querying; the Board keeps the last data."""
        await stop([task for _, task in self._running.values()])
        self._running.clear()

    async def _start(self, key: ServerKey, plan: Plan) -> None:
        await keep_running(f"asking the agent of {'/'.join(key)}", partial(self._follow, key, plan))

    async def _follow(self, key: ServerKey, plan: Plan) -> None:
        _, question, interval = plan
        outcome = Outcome.OK
        await asyncio.sleep(random.uniform(0.0, interval / 4))  # noqa: S311 - so that not all are asked at once
        while True:
            result, line = await self._ask(question)
            self.last[key] = result
            if line is not None:
                self._publisher.hear_line(key, line, time.monotonic())
            if result.outcome is not outcome:
                outcome = result.outcome
                level = logging.INFO if result.good else logging.WARNING
                _log.log(level, "server %s: cannot query its agent: %s (%s)", "/".join(key), outcome.name, result)
            pause = interval * random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311
            await asyncio.sleep(max(0.0, pause - result.seconds))


def _plans(snapshot: Snapshot) -> dict[ServerKey, Plan]:
    plans = {}
    for backend in snapshot.site.backends.values():
        agent = backend.agent
        if agent.connect is None:
            continue
        for server in backend.servers:
            key = backend.name, server.name
            address = snapshot.resolved[key]
            if isinstance(address, tuple):
                question = Question((address[0], agent.connect), agent.send.encode(), max(agent.interval, 0.25))
                plans[key] = snapshot.slots[key], question, agent.interval
    return plans
