"""Watches one server: checks, counts, writes the state to the Board, waits, and repeats."""

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable

from gateway.board import Board
from gateway.config.model import Check
from gateway.health.count import Counter, State
from gateway.health.probe import Target
from gateway.health.result import Result

_log = logging.getLogger("gateway.health")

Prober = Callable[[Target, Check], Awaitable[Result]]


class Watch:
    """Maintains the state of one server. The initial state is the Board's, so that a new process changes nothing."""

    def __init__(self, target: Target, check: Check, board: Board, doubt: Callable[[], None] = lambda: None) -> None:
        """`doubt` is called when results start to contradict the state, and when it changes."""
        self._target = target
        self._check = check
        self._board = board
        self._doubt = doubt
        self._hurry = asyncio.Event()
        self._checked = -math.inf  # start of the last check, in seconds of the monotonic clock
        self.last: Result | None = None
        self._counter = Counter(check.rise, check.fall, State(board.checked(target.slot)))

    def __repr__(self) -> str:
        return f"<Watch {self._target.name} {self._counter!r}>"

    def hurry(self) -> None:
        """Check at once because another process suspects the server to have changed, unless a check has just run."""
        if time.monotonic() - self._checked >= self._check.interval / 4:
            self._hurry.set()

    async def run(self, probe: Prober, sleep: Callable[[float], Awaitable[None]] | None = None) -> None:
        """Check until cancelled. Without `sleep`, `hurry` ends a pause early."""
        sleep = sleep or self._pause
        # Spread, so that a thousand servers are not checked in the same millisecond.
        await sleep(random.uniform(0.0, self._check.interval / 4))  # noqa: S311
        while True:
            self._checked = time.monotonic()
            self._hurry.clear()
            result = await probe(self._target, self._check)
            self.observe(result)
            await sleep(max(0.0, self.delay() * random.uniform(0.9, 1.1) - result.seconds))  # noqa: S311

    def observe(self, result: Result) -> None:
        """Count a result; if it changes the state, write that to the Board and the log."""
        self.last = result
        settled = not self._counter.undecided
        counted = self._counter.add(good=result.good)
        if counted or (settled and self._counter.undecided):
            self._doubt()
        if not counted:
            return
        state = self._counter.state
        self._board.set_state(self._target.slot, state)
        _log.log(
            logging.INFO if result.good else logging.WARNING,
            "server %s is %s: %s after %d %s (%s)",
            self._target.name,
            state.name,
            result.outcome.name,
            counted,
            ("good" if result.good else "failed") + (" check" if counted == 1 else " checks"),
            result,
        )

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    def delay(self) -> float:
        """Return the seconds from one check to the next: shorter while results contradict the state."""
        return self._check.interval / 4 if self._counter.undecided else self._check.interval
