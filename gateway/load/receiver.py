"""Receives load reports: one datagram each, believed only if signed, fresh, and about a known server."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from gateway.config.snapshot import ServerKey
from gateway.load.refusals import Refusals
from gateway.load.replay import ReplayGuard, Verdict
from loadagent.report import BadReport, Report, decode

_log = logging.getLogger("gateway.load")


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
        self._refusals = Refusals("load report", _log, steady)
        self.refused = self._refusals.counts
        self._hear = hear
        self._wall = wall
        self._guard = ReplayGuard()
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
            self._refusals.note(error.reason.value, str(error), addr[0])
            return
        servers = [key for key in self._named.get(report.server, ()) if report.backend in (None, key[0])]
        if not servers:  # before the guard, whose memory is bounded by the servers there are
            self._refusals.note("unknown server", f"there is no server {report.server}", addr[0])
            return
        verdict = self._guard.check(report, self._wall())
        if verdict is not Verdict.ACCEPTED:
            self._refusals.note(verdict.value, f"{report.server}: {verdict.value}", addr[0])
            return
        for server in servers:
            self._hear(server, report)

    def error_received(self, exc: Exception) -> None:
        """Note trouble of the socket; the next datagram may be fine."""
        self._refusals.note("socket error", str(exc), "")
