"""The exchange of loads between sites, in signed datagrams (format: loadagent/report.py).

Each gateway of a site reports for itself: `server` is the site, `backend` the gateway. The load of a site is that of
the gateway with the largest view of it; a site that stops announces it, and one that falls silent is forgotten.
"""

import asyncio
import logging
import re
import socket
import time
from typing import Final

from gateway.balance.policy import Members
from gateway.board import WORKERS, Board
from gateway.config.model import Site
from gateway.config.sites import MAX_PEERS
from gateway.config.sites import Sites as SitesModel
from gateway.config.snapshot import Snapshot
from gateway.control.datagrams import Datagrams
from gateway.control.tasks import keep_running, stop
from gateway.load.refusals import Refusals
from gateway.load.replay import ReplayGuard, Verdict
from loadagent.config import Endpoint
from loadagent.numbering import Numbering
from loadagent.push import DatagramLink
from loadagent.report import BadReport, Report, State, decode, encode, parse_key

EVERY: Final = 1.0
"""Seconds between two reports."""
CONTEXT: Final = b"eddie site report\0"
METRIC: Final = "load"
MAX_NODES: Final = 64
"""Number of a site's gateways that are remembered."""

_log = logging.getLogger("gateway.control")


class Hearsay:
    """The reported loads of sites; pure. Times are in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._said: dict[str, dict[str, tuple[float | None, float]]] = {}

    def hear(self, report: Report, now: float) -> None:
        """Process a report of a site's gateway."""
        nodes = self._said.setdefault(report.server, {})
        nodes.pop(report.backend or "", None)
        if report.state is State.READY:
            nodes[report.backend or ""] = report.score, now
        if len(nodes) > MAX_NODES:  # forget the one that has been silent longest; its next report adds it again
            del nodes[next(iter(nodes))]

    def load(self, site: str, now: float, stale_after: float) -> tuple[float, float] | None:
        """(load, time of the report), or None if unknown."""
        nodes = self._said.get(site, {})
        for node in [node for node, (_, said) in nodes.items() if now - said > stale_after]:
            del nodes[node]
        known = [(load, said) for load, said in nodes.values() if load is not None]
        return max(known, default=None)


class Sites(asyncio.DatagramProtocol):
    """Reports and listens for successive site files, in the running event loop."""

    def __init__(self, board: Board) -> None:
        self._refusals = Refusals("site report", _log)
        self._board = board
        self._hearsay = Hearsay()
        self._guard = ReplayGuard(time.time_ns(), time.monotonic(), capacity=MAX_PEERS * MAX_NODES)
        self._numbering = Numbering()
        self._model: SitesModel | None = None
        self._key = b""
        self._node = ""
        self._members: list[Members] = []
        self._links: dict[Endpoint, tuple[DatagramLink, asyncio.Task[None]]] = {}
        self._talking: asyncio.Task[None] | None = None
        self._datagrams: Datagrams | None = None

    async def apply(self, snapshot: Snapshot, sock: socket.socket | None) -> None:
        """Use a snapshot; `sock` replaces the socket, if there is a new one. Raises OSError."""
        site = snapshot.site
        self._model = site.sites
        self._node = re.sub(r"[^A-Za-z0-9._:-]", "-", site.node)[:64] or "gateway"
        self._members = _members(snapshot, self._board) if site.sites else []
        self._key = parse_key(snapshot.files[site.sites.key_file]) if site.sites else b""
        await self._connect(site)
        if self._datagrams is not None and (sock is not None or site.sites is None):
            self._datagrams.close()
            self._datagrams = None
        if sock is not None:
            self._datagrams = Datagrams(sock, self)
        if self._talking is None and site.sites is not None:
            self._talking = asyncio.create_task(keep_running("reporting the load to other sites", self._talk))
        if site.sites is None:
            self._board.set_sites([])

    @property
    def refused(self) -> dict[str, int]:
        """Numbers of refused reports, by reason."""
        return dict(self._refusals.counts)

    def loads(self) -> dict[str, float | None]:
        """The load of this site and each other one, 1.0 when full; None if unknown."""
        names = [self._model.self_, *self._model.others] if self._model is not None else []
        now = time.monotonic()
        return {name: self._board.site_load(name, now) for name in names}

    async def close(self) -> None:
        """Announce the stop to the others, and stop."""
        if self._model is not None:
            self._tell(State.MAINTENANCE)
        self._model = None
        tasks = [task for _, task in self._links.values()]
        await stop(tasks if self._talking is None else [*tasks, self._talking])
        for link, _ in self._links.values():
            link.__exit__()
        self._links.clear()
        if self._datagrams is not None:
            self._datagrams.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Process one datagram from any sender."""
        try:
            report = decode(data, self._key, CONTEXT)
        except BadReport as error:
            self._refusals.note(error.reason.value, str(error), addr[0])
            return
        if self._model is None or report.server not in self._model.others:
            self._refusals.note("unknown site", f"there is no other site {report.server}", addr[0])
            return
        verdict = self._guard.check(report, time.time_ns(), time.monotonic())
        if verdict is not Verdict.ACCEPTED:
            self._refusals.note(verdict.value, f"{report.server}: {verdict.value}", addr[0])
            return
        self._hearsay.hear(report, time.monotonic())

    def error_received(self, exc: Exception) -> None:
        """Note a socket error; the next datagram may be fine."""
        self._refusals.note("socket error", str(exc), "")

    async def _connect(self, site: Site) -> None:
        """Create a link to each gateway of each other site."""
        wanted = {
            Endpoint(address.host, address.port)
            for peer in (site.sites.others.values() if site.sites else ())
            for address in peer.report
        }
        gone = [self._links.pop(endpoint) for endpoint in self._links.keys() - wanted]
        await stop([task for _, task in gone])
        for link, _ in gone:
            link.__exit__()
        for endpoint in sorted(wanted - self._links.keys()):
            link = DatagramLink(endpoint)
            self._links[endpoint] = link, asyncio.create_task(keep_running(f"following {endpoint}", link.follow))

    async def _talk(self) -> None:
        while True:
            self._tell(State.READY)
            await asyncio.sleep(EVERY)

    def _tell(self, state: State) -> None:
        """Publish the loads of all sites on the Board, and send this site's to the others."""
        model = self._model
        if model is None:
            return
        now = time.monotonic()
        loads = [load for members in self._members if (load := members.load()) is not None]
        own = max(loads, default=None)
        known = {model.self_: None if own is None else (own, now)} | {
            name: self._hearsay.load(name, now, model.stale_after) for name in model.others
        }
        self._board.set_sites(
            [(name, fact[0], fact[1] + model.stale_after) for name, fact in known.items() if fact is not None]
        )
        metrics = {} if own is None else {METRIC: own}
        report = Report(model.self_, *self._numbering.next(), state, self._node, metrics)
        datagram = encode(report, self._key, CONTEXT)
        for link, _ in self._links.values():
            link.send(datagram)


def _members(snapshot: Snapshot, board: Board) -> list[Members]:
    return [Members(board, snapshot.members(name), WORKERS) for name in snapshot.site.backends]
