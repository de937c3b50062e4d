"""Receives load reports: one datagram each, believed only if signed, fresh, and about a known server."""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from gateway.load.replay import ReplayGuard, Verdict
from loadagent.quiet import Quiet
from loadagent.report import BadReport, Report, decode

_log = logging.getLogger("gateway.load")

ServerKey = tuple[str, str]  # backend, server


class Receiver(asyncio.DatagramProtocol):
    """Passes each good report to `hear`, once for every server that it is about.

    `refused` counts the others by reason. Nothing is answered, so a forger learns nothing and nobody else is
    hit by answers to a forged source address.
    """

    def __init__(
        self,
        hear: Callable[[ServerKey, Report], None],
        wall: Callable[[], int] = time.time_ns,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused: Counter[str] = Counter()
        self._hear = hear
        self._wall = wall
        self._steady = steady
        self._guard = ReplayGuard()
        self._quiet = Quiet()
        self._key = b""
        self._named: dict[str, list[ServerKey]] = {}

    def expect(self, key: bytes, servers: Iterable[ServerKey]) -> None:
        """Believe reports that are signed with `key` and about these servers, from now on."""
        named = defaultdict(list)
        for backend, server in servers:
            named[server].append((backend, server))
        self._key, self._named = key, dict(named)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Take one datagram from anywhere."""
        try:
            report = decode(data, self._key)
        except BadReport as error:
            self._refuse(error.reason.value, str(error), addr)
            return
        servers = [key for key in self._named.get(report.server, ()) if report.backend in (None, key[0])]
        if not servers:  # before the guard, whose memory is bounded by the servers there are
            self._refuse("unknown server", f"there is no server {report.server}", addr)
            return
        verdict = self._guard.check(report, self._wall())
        if verdict is not Verdict.ACCEPTED:
            self._refuse(verdict.value, f"{report.server}: {verdict.value}", addr)
            return
        for server in servers:
            self._hear(server, report)

    def error_received(self, exc: Exception) -> None:
        """Note trouble of the socket; the next datagram may be fine."""
        self._refuse("socket error", str(exc), ("", 0))

    def _refuse(self, reason: str, detail: str, source: tuple[str, int]) -> None:
        self.refused[reason] += 1
        kept_back = self._quiet.ask((source[0], reason), self._steady())
        if kept_back is not None:
            more = f" ({kept_back} more like this before)" if kept_back else ""
            _log.warning("load report from %s refused: %s%s", source[0] or "the network", detail, more)
