"""The control process's work: turns checks and load reports into states and weights on the Board."""

import asyncio
import contextlib
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from gateway.board import Board
from gateway.config.discovery import Found
from gateway.config.model import LoadReports
from gateway.config.snapshot import ServerKey, Snapshot
from gateway.control import servers
from gateway.control.agents import Agents
from gateway.control.checks import NO_PAIRS, Checks, Pairs
from gateway.control.datagrams import Datagrams
from gateway.control.discovery import Discovery
from gateway.control.exchange import Exchange
from gateway.control.hints import Hints
from gateway.control.outliers import LOOK_EVERY, Watchdog
from gateway.control.publisher import Publisher
from gateway.control.tasks import keep_running, stop
from gateway.health.probe import Probe
from gateway.load.keys import ReportKeys
from gateway.load.receiver import Receiver
from gateway.reports import SiteReport
from loadagent.report import Report, parse_key
from qos.rates import RateTable
from qos.sessions import SessionTable

PUBLISH_EVERY = 0.5  # seconds


class Control:
    """Everything that control does for one site, in the running event loop.

    `reports` is a UDP socket bound to `load_reports.listen`; Control closes it. `tell` is called with the name
    service's answers for dns: entries whenever they have changed; they take effect with the next snapshot.
    """

    def __init__(
        self,
        board: Board,
        reports: socket.socket | None,
        tell: Callable[[Found], None],
        *,
        rates: RateTable | None = None,
        sessions: SessionTable | None = None,
    ) -> None:
        self._board = board
        self._reports = reports
        self._snapshot: Snapshot | None = None
        self._publisher = Publisher(board, time.monotonic())
        self._watchdog = Watchdog(board, self._publisher.load)
        self._receiver = Receiver(self._hear)
        self._datagrams: Datagrams | None = None
        self._stack = contextlib.AsyncExitStack()
        self._checks: Checks | None = None
        self._agents = Agents(board, self._publisher)
        self._hints = Hints(self._hurry, self._hear_news)
        self.exchange = Exchange(rates, sessions, self._hints.broadcast) if rates and sessions else None
        self._discovery = Discovery(tell)

    async def apply(
        self,
        snapshot: Snapshot,
        reports: socket.socket | None = None,
        hints: socket.socket | None = None,
        pairs: Pairs = NO_PAIRS,
    ) -> None:
        """Start with a snapshot, or switch to it without disturbing unchanged parts. `pairs` are for checks.

        `reports` replaces the socket, for a site file that moves `load_reports.listen`; so does `hints` that of
        `cluster.listen`. Raises OSError if a socket cannot be used.
        """
        self._snapshot = snapshot
        self._publisher.apply(snapshot)
        self._watchdog.apply(snapshot)
        if load_reports := snapshot.site.load_reports:  # without a pause, so that both know the same servers
            self._expect(snapshot, load_reports)
        if self._checks is None:
            self._checks = self._start()
        await self._checks.apply(snapshot, pairs)
        await self._hints.apply(snapshot, hints)
        if self.exchange is not None:
            self.exchange.apply(snapshot)
        await self._agents.apply(snapshot)
        await self._discovery.apply(snapshot)
        await self._listen(snapshot, reports)

    @property
    def refused(self) -> dict[str, dict[str, int]]:
        """Numbers of refused datagrams, by kind and by reason."""
        found = {"load report": dict(self._receiver.refused), "check hint": dict(self._hints.refused)}
        return {**found, "cluster news": dict(self.exchange.refused) if self.exchange is not None else {}}

    def servers(self) -> SiteReport:
        """The part of `gateway status` on traffic and servers."""
        assert self._snapshot is not None  # noqa: S101 - nothing is answered before the first one
        checks = self._checks.last() if self._checks else {}
        return servers.report(self._snapshot, self._board, checks, self._agents.last, time.monotonic())

    async def close(self) -> None:
        """Stop everything; the Board keeps its last values, so traffic continues."""
        await self._discovery.close()
        if self.exchange is not None:
            await self.exchange.close()
        self._hints.close()
        await self._agents.close()
        if self._checks:
            await self._checks.close()
        await self._stack.aclose()
        self._stop_listening()

    def _expect(self, snapshot: Snapshot, model: LoadReports) -> None:
        """Tell the receiver which servers' reports to accept, and their keys."""
        backends = snapshot.site.backends
        pushed = [key for key in snapshot.slots if backends[key[0]].agent.connect is None]
        homes: dict[str, set[str]] = defaultdict(set)
        for (_, server), endpoint in snapshot.resolved.items():
            if isinstance(endpoint, tuple):
                homes[server].add(endpoint[0])

        def read(path: Path | None) -> bytes:
            return b"" if path is None else parse_key(snapshot.files[path])

        own = ReportKeys({server: read(path) for server, path in model.keys.items()}, read(model.secret_file))
        self._receiver.expect(read(model.key_file), pushed, own, homes)

    def _start(self) -> Checks:
        publishing = asyncio.create_task(keep_running("publishing weights", self._publish))
        watching = asyncio.create_task(keep_running("watching how servers answer", self._watch))
        self._stack.push_async_callback(stop, [publishing, watching])
        return Checks(self._board, Probe(), self._hints.send)

    async def _publish(self) -> None:
        while True:
            self._publisher.tick(time.monotonic())
            await asyncio.sleep(PUBLISH_EVERY)

    async def _watch(self) -> None:
        while True:
            self._watchdog.tick(time.monotonic())
            await asyncio.sleep(LOOK_EVERY)

    async def _listen(self, snapshot: Snapshot, reports: socket.socket | None) -> None:
        if reports is not None or snapshot.site.load_reports is None:
            self._stop_listening()
            self._reports = reports
        if self._reports is not None and self._datagrams is None and snapshot.site.load_reports:
            self._datagrams = Datagrams(self._reports, self._receiver)
            self._receiver.send = self._datagrams.sendto

    def _stop_listening(self) -> None:
        if self._datagrams:
            self._datagrams.close()
        elif self._reports:
            self._reports.close()
        self._datagrams = self._reports = self._receiver.send = None

    def _hear_news(self, data: bytes, source: str) -> None:
        if self.exchange is not None:
            self.exchange.hear(data, source)

    def _hurry(self, key: ServerKey) -> None:
        if self._checks is not None:
            self._checks.hurry(key)

    def _hear(self, key: ServerKey, report: Report) -> None:
        self._publisher.hear(key, report, time.monotonic())
