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
    future: "Future[bool]"
    waiting: dict[int, Told] = field(default_factory=dict)


class PasswordChecks:
    """Requests with the same credentials share a check."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread: ThreadPoolExecutor | None = None
        self._checks: dict[bytes, _Check] = {}
        self._of: Counter[str] = Counter()

    def ask(self, login: Login, client: bytes, number: int, told: Told) -> int:
        """Check credentials, and tell the result later, in this thread: 0; or the status of a request that must not.

        `number` identifies the request for `forget`.
        """
        check = self._checks.get(login.digest)
        if check is None:
            source = _source(client.decode("latin-1"))
            if self._of[source] >= MOST_OF_CLIENT:
                return TOO_MANY
            if len(self._checks) >= MOST:
                return FULL
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "passwords")
            self._of[source] += 1
            check = self._checks[login.digest] = _Check(login, source, self._thread.submit(login.check))
            check.future.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._over, login.digest))
        check.waiting[number] = told
        return 0

    def forget(self, login: Login, number: int) -> None:
        """The request has ended: a check without a waiting request is not begun."""
        check = self._checks.get(login.digest)
        if check is not None:
            check.waiting.pop(number, None)
            if not check.waiting:
                check.future.cancel()

    def _over(self, digest: bytes) -> None:
        check = self._checks.pop(digest)
        self._of[check.source] -= 1
        if not self._of[check.source]:
            del self._of[check.source]
        good = False
        if not check.future.cancelled():
            error = check.future.exception()
            if error is not None:
                log.error("a password cannot be checked", exc_info=error)
            else:
                good = check.future.result()
                check.login.settle(good=good)
        for told in check.waiting.values():
            told(good)


def _source(address: str) -> str:
    if ":" not in address:
        return address
    return str(ip_network((ip_address(address), 64), strict=False))
