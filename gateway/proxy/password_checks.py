"""Checks passwords beside the traffic: in one thread of a worker, behind a queue with a bound for each client."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Final

from gateway.rules.basic_auth import Login

log = logging.getLogger(__name__)

MOST: Final = 256
"""Checks that wait in a worker; with bcrypt of cost 10, some ten seconds of work."""
MOST_OF_CLIENT: Final = 8
"""Those of one address (IPv6: /64): guesses from one client do not keep others waiting."""
FULL: Final = 503
TOO_MANY: Final = 429
"""Statuses of requests that are not checked."""

Told = Callable[[bool], None]


@dataclass(slots=True)
class _Check:
    login: Login
    source: str
    waiting: dict[int, Told] = field(default_factory=dict)


class PasswordChecks:
    """Requests with the same credentials share a check.

    The thread has one check at a time: a queue of its own would keep the passwords of requests that have ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread: ThreadPoolExecutor | None = None
        self._checks: dict[bytes, _Check] = {}
        """By digest, oldest first; with the one that the thread has."""
        self._of: Counter[str] = Counter()
        self._begun: _Check | None = None
        """What the thread has."""

    def ask(self, login: Login, client: bytes, number: int, told: Told) -> int:
        """Check credentials, and tell the result later, in this thread: 0; or the status of a request that must not.

        `number` identifies the request for `forget`.
        """
        check = self._checks.get(login.key)
        if check is None:
            source = _source(client.decode("latin-1"))
            if self._of[source] >= MOST_OF_CLIENT:
                return TOO_MANY
            if len(self._checks) >= MOST:
                return FULL
            self._of[source] += 1
            check = self._checks[login.key] = _Check(login, source)
        check.waiting[number] = told
        if self._begun is None:
            self._begin(check)
        return 0

    def forget(self, login: Login, number: int) -> None:
        """The request has ended: a check without a waiting request is not begun, and leaves no password behind."""
        check = self._checks.get(login.key)
        if check is not None:
            check.waiting.pop(number, None)
            if not check.waiting and check is not self._begun:
                self._remove(check)

    def _begin(self, check: _Check) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "passwords")
        self._begun = check
        future = self._thread.submit(check.login.check)
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._over, check, done))

    def _over(self, check: _Check, done: "Future[bool]") -> None:
        self._remove(check)
        self._begun = None
        if self._checks:
            self._begin(next(iter(self._checks.values())))
        good = False
        error = done.exception()
        if error is not None:
            log.error("a password cannot be checked", exc_info=error)
        else:
            good = done.result()
            check.login.settle(good=good)
        for told in check.waiting.values():
            told(good)

    def _remove(self, check: _Check) -> None:
        del self._checks[check.login.key]
        self._of[check.source] -= 1
        if not self._of[check.source]:
            del self._of[check.source]


def _source(address: str) -> str:
    if ":" not in address:
        return address
    return str(ip_network((ip_address(address), 64), strict=False))
