"""The exchange of loads between sites, in signed datagrams (format: loadagent/report.py).

Each gateway of a site reports for itself: `server` is the site, `backend` the gateway. The load of a site is that of
the gateway with the largest view of it, its requests are those of all; a site that stops announces it, and one that
falls silent is forgotten. What is known goes to the Board, for redirects, and to the name server.
"""

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from statistics import fmean
from typing import Final

from gateway.balance.policy import Members
from gateway.board import WORKERS, Board
from gateway.config.model import Site
from gateway.config.overrides import NOTHING
from gateway.config.sites import MAX_PEERS
from gateway.config.sites import Sites as SitesModel
from gateway.config.snapshot import Snapshot
from gateway.control.datagrams import Datagrams
from gateway.control.evacuation import Order, ordered
from gateway.control.hearsay import FULL, MAX_NODES, Capacity, Hearsay
from gateway.control.resolver_probe import probe
from gateway.control.site_latency import BURST, Ip, SiteLatency
from gateway.control.site_report import MAX_REPORTS, ROOM, Detail, SiteReport, backend, metrics_of
from gateway.control.site_streams import SiteStreams
from gateway.control.tasks import keep_running, stop
from gateway.load.refusals import Refusals
from gateway.load.replay import ReplayGuard, Verdict
from gateway.load.spill import Other, Spill
from gateway.reports import SiteStateReport
from loadagent.config import Endpoint
from loadagent.numbering import Numbering
from loadagent.push import DatagramLink
from loadagent.report import BadReport, Report, State, decode, encode, parse_key

EVERY: Final = 1.0
"""Seconds between two reports."""
KEEP: Final = 3600.0
"""Seconds for which times to resolvers are used that other sites have measured, if this one does not."""
LOOKS: Final = 10
"""Looks in that time at this site's load, and at the sites that have fallen silent."""
CONTEXT: Final = b"eddie site report\0"
WITHOUT_UDP: Final = 3.0
"""Seconds without a datagram of a site after which it is heard over TCP."""


_log = logging.getLogger("gateway.control")


@dataclass(frozen=True, slots=True)
class About:
    """What others of this process know of this gateway."""

    sessions_free: int | None = None
    """None: sessions are not limited."""
    responses: int | None = None
    """Those of the name server since its start; None: none works."""
    open_names: int = 0
    """Names none of whose sites works."""
    resolvers: tuple[str, ...] = ()
    """Those that have asked lately for names with `latency`."""


class Pace:
    """How fast a counter grows; pure."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._rate = 0.0

    def step(self, total: int, now: float) -> float:
        """Take a count at a time in seconds; returns the growth per second since the one before."""
        if self._last is not None and now > self._last[0]:
            self._rate = max(0, total - self._last[1]) / (now - self._last[0])
        self._last = now, total
        return self._rate


class Sites(asyncio.DatagramProtocol):
    """Reports and listens for successive site files, in the running event loop."""

    def __init__(
        self,
        board: Board,
        tell: Callable[[Mapping[str, SiteStateReport]], object] = bool,
        about: Callable[[], About] = About,
    ) -> None:
        """`tell` is called with the state of each site every second, and when one changes; `about` before a report."""
        self._tell_states = tell
        self._about = about
        self._capacity: dict[str, Capacity] = {}
        self._drained = False
        self._override = NOTHING
        self._told: Order | None = None
        """By another gateway of this site, to evacuate it."""
        self._own_ttl = 0.0
        self._spill: Spill | None = None
        self._up: set[str] = set()
        """The sites that were up when their states were told last."""
        self._streams = SiteStreams(self._hear_stream)
        self._by_udp: dict[str, float] = {}
        """When a datagram of each site has come last."""
        self._traffic: list[int] = []
        self._pace, self._dns_pace = Pace(), Pace()
        self._seen: list[float] = []
        """Loads of this site since the last report."""
        self._next_backend = 0
        self._latency = SiteLatency("", 0.0, 0.0)
        self._probes: set[asyncio.Task[None]] = set()
        self._began = time.monotonic()
        self._refusals = Refusals("site report", _log)
        self._board = board
        self._hearsay = Hearsay()
        self._guard = ReplayGuard(time.time_ns(), time.monotonic(), capacity=MAX_PEERS * MAX_NODES)
        self._numbering = Numbering()
        self._model: SitesModel | None = None
        self._key = b""
        self._node = ""
        self._members: list[Members] = []
        self._backends: list[tuple[str, Members]] = []
        self._links: dict[Endpoint, tuple[DatagramLink, asyncio.Task[None]]] = {}
        self._talking: asyncio.Task[None] | None = None
        self._datagrams: Datagrams | None = None

    async def apply(self, snapshot: Snapshot, sock: socket.socket | None, stream: socket.socket | None = None) -> None:
        """Use a snapshot; `sock` and `stream`, for UDP and TCP, replace the sockets if they are new. Raises OSError."""
        site = snapshot.site
        self._model = site.sites
        self._node = re.sub(r"[^A-Za-z0-9._:-]", "-", site.node)[:64] or "gateway"
        self._members = _members(snapshot, self._board) if site.sites else []
        self._traffic = [snapshot.traffic["backend", name] for name in site.backends]
        self._pace = Pace()
        self._backends = list(zip(site.backends, self._members, strict=True)) if self._members else []
        self._drained = snapshot.overrides.node not in {None, "ready"}
        self._override = snapshot.overrides.site(site.sites.self_) if site.sites else NOTHING
        self._own_ttl = max((name.ttl for _, _, name in site.dns.balanced()), default=0.0) if site.dns else 0.0
        self._key = parse_key(snapshot.files[site.sites.key_file]) if site.sites else b""
        self._measure(site.sites)
        await self._connect(site)
        if self._datagrams is not None and (sock is not None or site.sites is None):
            self._datagrams.close()
            self._datagrams = None
        if sock is not None:
            self._datagrams = Datagrams(sock, self)
        if stream is not None or site.sites is None:
            await self._streams.listen(stream)
        if self._talking is None and site.sites is not None:
            self._talking = asyncio.create_task(keep_running("reporting the load to other sites", self._talk))
        if site.sites is None:
            self._board.set_sites([])
            self._tell_states({})
        else:
            self._tell(State.READY)  # at once: a command may have taken this gateway or its site out

    @property
    def refused(self) -> dict[str, int]:
        """Numbers of refused reports, by reason."""
        return dict(self._refusals.counts)

    def latencies(self) -> dict[str, dict[str, float]]:
        """Milliseconds from sites to the resolvers that ask this gateway for names with `latency`."""
        return self._latency.known(time.monotonic())

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
        await stop([*tasks, *self._probes] if self._talking is None else [*tasks, *self._probes, self._talking])
        for link, _ in self._links.values():
            link.__exit__()
        self._links.clear()
        await self._streams.close()
        if self._datagrams is not None:
            self._datagrams.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Process one datagram from any sender."""
        report = self._decode(data, addr[0])
        if report is not None:
            self._by_udp[report.server] = time.monotonic()
            self._hear(report, addr[0], again=False)

    def _hear_stream(self, data: bytes, source: str) -> bool:
        """Process a report that has come over TCP; whether it was signed with the key lately."""
        report = self._decode(data, source)
        return report is not None and self._hear(report, source, again=True)

    def _decode(self, data: bytes, source: str) -> Report | None:
        try:
            return decode(data, self._key, CONTEXT)
        except BadReport as error:
            self._refusals.note(error.reason.value, str(error), source)
            return None

    def _hear(self, report: Report, source: str, *, again: bool) -> bool:
        """Take a report; `again`: it may have come by another way before. Returns whether its time is the present."""
        model = self._model
        if model is not None and report.server == model.self_ and report.backend == self._node:
            return True  # of this gateway itself, which is in the list of its site
        if model is None or report.server not in {model.self_, *model.others}:
            self._refusals.note("unknown site", f"there is no other site {report.server}", source)
            return True
        verdict = self._guard.check(report, time.time_ns(), time.monotonic())
        if verdict is not Verdict.ACCEPTED:
            if not again:
                self._refusals.note(verdict.value, f"{report.server}: {verdict.value}", source)
            return verdict is Verdict.REPLAYED
        now = time.monotonic()
        before = self._hearsay.view(report.server, now, model.stale_after)
        said = self._hearsay.hear(report, now)
        self._latency.hear(report.server, said.times, said.asks, now)
        after = self._hearsay.view(report.server, now, model.stale_after)
        if (before.up, before.draining, before.evacuates) != (after.up, after.draining, after.evacuates):
            self._tell_all(self.states())
        return True

    def evacuation(self) -> Order | None:
        """The order to evacuate this site that holds: this gateway's own, or that of another gateway of the site."""
        model = self._model
        if model is None:
            return None
        other = self._hearsay.view(model.self_, time.monotonic(), model.stale_after).evacuates
        if other is None or other == self._node:
            self._told = None
        elif self._told is None or self._told.by != other:
            self._told = Order(other, time.time())
        return self._ordered() or self._told

    def ttl(self) -> float:
        """Seconds for which resolvers may keep answers of any name server of the sites, as far as it is known."""
        model = self._model
        return 0.0 if model is None else max(self._own_ttl, self._hearsay.ttl(time.monotonic(), model.stale_after))

    def _ordered(self) -> Order | None:
        """What this gateway itself has been told, or its site file says."""
        return None if self._model is None else ordered(self._model, self._override, time.time())

    def error_received(self, exc: Exception) -> None:
        """Note a socket error; the next datagram may be fine."""
        self._refusals.note("socket error", str(exc), "")

    async def _connect(self, site: Site) -> None:
        """Create a link to each gateway of each site, this one's others included."""
        wanted = {
            Endpoint(address.host, address.port)
            for peer in (site.sites.peers.values() if site.sites else ())
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
            for _ in range(LOOKS):
                await asyncio.sleep(EVERY / LOOKS)
                self._notice()

    def _measure(self, model: SitesModel | None) -> None:
        """Probe as the site file allows; what is known stays while that is the same."""
        allowed = model.probe if model is not None else None
        wanted = (
            model.self_ if model is not None else "",
            allowed.rate if allowed is not None else 0.0,
            allowed.keep if allowed is not None else KEEP,
        )
        if wanted != self._latency.settings:
            self._latency = SiteLatency(*wanted)

    def _probe(self) -> None:
        """Begin the probes that are due."""
        latency = self._latency
        while len(self._probes) < BURST and (address := latency.due(time.monotonic())) is not None:
            task = asyncio.create_task(self._measured(latency, address))
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)

    async def _measured(self, latency: SiteLatency, address: Ip) -> None:
        latency.measured(address, await probe(address), time.monotonic())

    def _notice(self) -> None:
        """Look at the load of this site; tell at once that another one has fallen silent for too long."""
        self._probe()
        load = self._own_load()
        if load is not None:
            self._seen.append(load)
        if self._spill is not None and self.evacuation() is None:
            self._spill.see(load, time.monotonic())
        states = self.states()
        if {name for name, state in states.items() if state.up} != self._up:
            self._tell_all(states)

    def _tell_all(self, states: Mapping[str, SiteStateReport]) -> None:
        self._up = {name for name, state in states.items() if state.up}
        self._tell_states(states)

    def _tell(self, state: State) -> None:
        """Publish the loads of all sites on the Board, and send this site's to the others."""
        model = self._model
        if model is None:
            return
        now = time.monotonic()
        own = self._own_load()
        own_load = FULL if self.evacuation() is not None else own  # redirects go elsewhere
        known = {model.self_: None if own_load is None else (own_load, now)} | {
            name: self._hearsay.load(name, now, model.stale_after) for name in model.others
        }
        parts = self._spill_over(model, own_load, now)
        self._board.set_sites(
            [
                (name, fact[0], parts.get(name, 0.0), fact[1] + model.stale_after)
                for name, fact in known.items()
                if fact is not None
            ]
        )
        works = not self._members or any(members.up() for members in self._members)
        told = self._ordered()
        if state is State.READY and (self._drained or told is not None or not works):
            state = State.DRAIN
        about = self._about()
        self._latency.see(_addresses(about.resolvers), now)
        said = SiteReport(
            load=own,
            mean_load=fmean(self._seen) if self._seen else own,
            requests=self._pace.step(sum(sum(self._board.passed_through(row).answers) for row in self._traffic), now),
            evacuates=told is not None,
            ttl=self._own_ttl,
            sessions_free=about.sessions_free,
            responses=self._dns_pace.step(about.responses, now) if about.responses is not None else None,
            open_names=about.open_names,
        )
        self._seen.clear()
        datagrams = []
        for metrics in metrics_of(said, self._details(now)):
            report = Report(model.self_, *self._numbering.next(), state, self._node, metrics)
            self._hearsay.hear(report, now)
            datagrams.append(encode(report, self._key, CONTEXT))
        for datagram in datagrams:
            for link, _ in self._links.values():
                link.send(datagram)
        self._streams.send(datagrams)
        self._streams.connect(self._unheard(model, now))
        for name in {model.self_, *model.others}:
            view = self._hearsay.view(name, now, model.stale_after)
            self._capacity.setdefault(name, Capacity()).observe(view.requests, view.load)
        self._tell_all(self.states())

    def states(self) -> dict[str, SiteStateReport]:
        """What is known of each site.

        A site counts as down when it has been silent for `stale_after`, this gateway's start included.
        """
        model = self._model
        if model is None:
            return {}
        now = time.monotonic()
        found = {}
        for name in {model.self_, *model.others}:
            view = self._hearsay.view(name, now, model.stale_after)
            capacity = self._capacity.get(name)
            found[name] = SiteStateReport(
                up=view.up or now - self._began <= model.stale_after,
                draining=view.draining,
                load=view.load,
                capacity=capacity.estimate if capacity is not None else None,
                evacuated=view.evacuates is not None,
                trust=round(view.trust, 2),
                own=name == model.self_,
                sessions_free=view.sessions_free,
                responses=view.responses,
                open_names=view.open_names,
                backends=view.backends,
            )
        return found

    def _own_load(self) -> float | None:
        """The highest load of a backend of this gateway; None: unknown."""
        return max((load for members in self._members if (load := members.load()) is not None), default=None)

    def _unheard(self, model: SitesModel, now: float) -> set[Endpoint]:
        """The gateways of other sites whose datagrams do not come here."""
        return {
            Endpoint(address.host, address.port)
            for name, peer in model.others.items()
            if now - self._by_udp.get(name, self._began) > max(EVERY, min(WITHOUT_UDP, model.stale_after / 2))
            for address in peer.report
        }

    def _spill_over(self, model: SitesModel, own: float | None, now: float) -> dict[str, float]:
        """The part of new clients that `site: spill` sends to each site."""
        if self._spill is None or (self._spill.begin, self._spill.whole) != (model.spill.from_, model.spill.all_):
            self._spill = Spill(model.spill.from_, model.spill.all_)
        others = {}
        for name in model.others:
            view, capacity = self._hearsay.view(name, now, model.stale_after), self._capacity.get(name)
            if view.up and not view.draining and view.load is not None:
                others[name] = Other(view.load, capacity.estimate if capacity is not None else None, view.trust)
        return self._spill.step(own, others, now)

    def _details(self, now: float) -> list[Detail]:
        """Times to resolvers; and in turn the health of some backends, by the next reports that of others."""
        found = self._latency.details((MAX_REPORTS - 1) * ROOM, now)
        count = min(ROOM, len(self._backends))
        turn = [self._backends[(self._next_backend + i) % len(self._backends)] for i in range(count)]
        self._next_backend += count
        return found + [backend(name, members.up() / members.count) for name, members in turn if members.count]


def _addresses(texts: Iterable[str]) -> Iterator[Ip]:
    """Addresses of resolvers, as the name server says them; it may have been taken over by others."""
    for text in texts:
        with contextlib.suppress(ValueError):
            yield ip_address(text)


def _members(snapshot: Snapshot, board: Board) -> list[Members]:
    return [Members(board, snapshot.members(name), WORKERS) for name in snapshot.site.backends]
