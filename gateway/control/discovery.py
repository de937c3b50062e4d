"""Follows the name service's answers for the dns: entries of a site, each at its own interval."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

from gateway.config.discovery import Found, Member, Question
from gateway.config.model import Resolver
from gateway.config.snapshot import Snapshot
from gateway.control.lookup import Answer, LookupFailedError, look_up
from gateway.control.tasks import keep_running, stop

Ask: TypeAlias = Callable[[Question, Resolver], Awaitable[Answer]]
Sleep: TypeAlias = Callable[[float], Awaitable[None]]

SHORTEST: Final = 1.0
LONGEST: Final = 60.0
"""Largest interval between two queries, in seconds, whatever the TTL."""
SLOWEST_RETRY: Final = 15.0
"""Seconds after the fifth consecutive failure, and each further one."""
EMPTY_AGAIN: Final = 2.0
"""Seconds until an empty answer is queried again: this long after the first, up to five times as long."""
EMPTY_COUNTS: Final = 3
"""Consecutive empty answers until the servers are considered removed: a name service that is being restarted gives
empty answers, too."""
TOGETHER: Final = 0.2
"""Seconds for which changes are collected: each message makes every worker switch to another snapshot."""
AT_ONCE: Final = 32
"""Largest number of open queries."""

_log = logging.getLogger("gateway.control")


class Discovery:
    """Sends queries, in the running event loop, and calls `tell` with changes."""

    def __init__(self, tell: Callable[[Found], None], ask: Ask = look_up, sleep: Sleep = asyncio.sleep) -> None:
        self._tell = tell
        self._ask = ask
        self._sleep = sleep
        self._open = asyncio.Semaphore(AT_ONCE)
        self._resolver: Resolver | None = None
        self._running: dict[Question, asyncio.Task[None]] = {}
        self._news: dict[Question, tuple[Member, ...]] = {}
        self._telling: asyncio.TimerHandle | None = None

    async def apply(self, snapshot: Snapshot) -> None:
        """Follow the entries of `snapshot`; existing ones continue."""
        resolver = snapshot.site.resolver
        same = resolver == self._resolver
        self._resolver = resolver
        gone = [question for question in self._running if not same or question not in snapshot.questions]
        await stop([self._running.pop(question) for question in gone])
        for question in sorted(snapshot.questions - self._running.keys()):
            name = f"following {question.kind} of {question.address.host}"
            work = keep_running(name, partial(self._follow, question, resolver))
            self._running[question] = asyncio.create_task(work)

    async def close(self) -> None:
        """Stop querying; collected changes are dropped."""
        if self._telling is not None:
            self._telling.cancel()
        await stop(list(self._running.values()))
        self._running.clear()

    async def _follow(self, question: Question, resolver: Resolver) -> None:
        name = f"{question.kind} of {question.address.host}"
        known: tuple[Member, ...] | None = None
        failed = empty = 0
        while True:
            try:
                async with self._open:
                    answer = await self._ask(question, resolver)
            except LookupFailedError as error:
                failed += 1
                if failed == 1:
                    _log.warning("%s: %s; keeping the previous servers", name, error)
                await self._sleep(min(SLOWEST_RETRY, SHORTEST * 2 ** min(failed - 1, 10)))
                continue
            if failed:
                _log.info("%s: name resolution works again", name)
            failed = 0
            empty = 0 if answer.members else empty + 1
            if answer.members != known and (answer.members or empty >= EMPTY_COUNTS):
                known = answer.members
                self._say(question, known)
            pause = min(LONGEST, max(SHORTEST, answer.ttl)) if answer.members else EMPTY_AGAIN * min(empty, 5)
            await self._sleep(pause)

    def _say(self, question: Question, members: tuple[Member, ...]) -> None:
        self._news[question] = members
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TOGETHER, self._tell_all)

    def _tell_all(self) -> None:
        self._telling = None
        news, self._news = self._news, {}
        self._tell(news)
