"""The process of the name server: sockets, the state of sites, and the supervisor's orders."""

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import asdict, replace
from functools import partial
from ipaddress import ip_address
from itertools import count, islice
from typing import Any, ClassVar, Final

import uvloop

from gateway.admin import report_json
from gateway.balance.site_shares import SiteState, states_of
from gateway.config.address import Listen
from gateway.config.places import Database
from gateway.config.snapshot import Snapshot
from gateway.dns.responder import Responder
from gateway.dns.table import Table
from gateway.dns.tcp import LAST, Limits, Listener
from gateway.dns.udp import Datagrams
from gateway.process.bulletin import Bulletin
from gateway.process.channel import identity
from gateway.process.child import ChildContext, LoopChild, Update, Work, run_loop
from gateway.reports import DnsNameReport, DnsReport
from gateway.secrets.keys import derive
from loadagent.report import parse_key

LOOK_EVERY: Final = 0.025
"""Seconds between two looks at what control says of the sites."""
MOVE_EVERY: Final = 1.0
"""Seconds between two moves of shares while nothing happens."""
RENEW_EVERY: Final = 3600.0
"""Seconds between two looks for signatures that are to be made anew."""
POST_EVERY: Final = 0.5
"""Seconds between two reports for `gateway status`."""
FORGET_AFTER: Final = 20
"""Reports after which resolvers are forgotten that have not asked for a name with `latency` meanwhile."""
NAMES: Final = 100
"""Names whose shares are reported."""
RECEIVE_BUFFER: Final = 4 * 1024 * 1024
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_OMIT: Final = 5
"""IP_PMTUDISC_OMIT and IPV6_PMTUDISC_OMIT of linux/in.h: forged ICMP messages do not make packets smaller."""

log = logging.getLogger("gateway.dns")


def prepare(context: ChildContext) -> Work:
    """The part of the start that runs once the process is confined."""
    return partial(run_loop, lambda: DnsProcess(context), uvloop.new_event_loop)


def cookie_key(snapshot: Snapshot, otherwise: bytes) -> bytes:
    """The key of DNS cookies: all servers that answer at one address need the same (RFC 9018 section 5)."""
    model, sites = snapshot.site.dns, snapshot.site.sites
    if model is not None and model.cookie_key_file is not None:
        return derive(parse_key(snapshot.files[model.cookie_key_file]), b"dns cookies", 16)
    if sites is not None:
        return derive(parse_key(snapshot.files[sites.key_file]), b"dns cookies of sites", 16)
    return otherwise


def _last_report(bulletin: Bulletin) -> DnsReport | None:
    """The counters of the process that this one replaces: counting continues from them."""
    with contextlib.suppress(report_json.Unreadable):
        return report_json.dns(said) if (said := bulletin.read()) is not None else None
    return None


class DnsProcess(LoopChild):
    """Answers queries by successive snapshots."""

    gather: ClassVar[int] = 50
    """Of Responder."""

    def __init__(self, context: ChildContext) -> None:
        super().__init__(context.channel)
        self._snapshot = context.snapshot
        self._first = [(name, place) for name, places in context.sockets.items() for place in places]
        self._control = context.bulletins["control"]
        self._bulletin = context.bulletins_of("dns")[context.number]
        self._counted = _last_report(self._bulletin)
        self._random = derive(context.rates.secret, b"dns cookies", 16)
        self._table = Table()
        self._database: Database | None = None
        """The MaxMind file that is open."""
        self._places_failed = 0
        """By the tables before."""
        self._states: dict[str, SiteState] = {}
        self._said: dict[str, Any] | None = None
        self._stamp = b""
        self._open: set[str] = set()
        """Names none of whose sites work."""
        self._responder = Responder(self._table.find, self._random, context.rates, gather=self.gather)
        self._listener: Listener | None = None
        self._datagrams: Datagrams | None = None
        self._udp: dict[int, socket.socket] = {}
        self._tcp: dict[int, socket.socket] = {}
        self._next_look: asyncio.TimerHandle | None = None
        self._moved = 0.0
        """When shares were moved last."""
        self._tasks: list[asyncio.Task[None]] = []
        self._draining: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Answer by the first snapshot."""
        self._listener = Listener(self._responder, Limits())
        self._datagrams = Datagrams(self._responder, self._end_by)
        self._look()
        await self._use(self._snapshot)
        for name, place in self._first:
            self._listen(name, *place)
        self._datagrams.serve(self._udp.values())
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(work) for work in (self._post(), self._renew())]
        for task in self._tasks:
            task.add_done_callback(self._failed)
        self._watch()
        self.ready(self._snapshot.version)

    async def go_over(self, update: Update) -> None:
        """Answer by another snapshot: what comes meanwhile waits at most for the swap of a table."""
        assert self._listener is not None and self._datagrams is not None  # noqa: S101, PT018 - made by start
        gone = [self._udp.pop(number) for number in self._udp.keys() - update.kept]
        if gone:
            self._datagrams.serve(self._udp.values())
        for number in self._tcp.keys() - update.kept:
            sock = self._tcp.pop(number)
            self._listener.remove(sock)
            gone.append(sock)
        for sock in gone:
            sock.close()
        await self._use(update.snapshot)
        for name, place in update.new:
            self._listen(name, *place)
        if update.new:
            self._datagrams.serve(self._udp.values())
        self.ready(self._snapshot.version)

    def drain(self, seconds: float) -> None:
        """Answer what has come, let TCP connections end, and end; a connection has LAST for a query in any case."""
        if not self._draining:
            self._draining.append(asyncio.get_running_loop().create_task(self._finish(max(seconds, LAST))))

    def finish(self) -> None:
        """End soon."""
        self.drain(LAST)

    async def _finish(self, seconds: float) -> None:
        if self._listener is not None:
            await self._listener.drain(seconds)
        self.end()

    async def close(self) -> None:
        """Answer what waits, and stop."""
        for task in (*self._tasks, *self._draining):
            task.remove_done_callback(self._failed)
            task.cancel()
        if self._next_look is not None:
            self._next_look.cancel()
        if self._datagrams is not None:
            self._datagrams.close()
        for sock in self._udp.values():
            sock.close()
        if self._listener is not None:
            self._listener.close()
            self._bulletin.post(asdict(replace(self.summary(), processes=0, tcp_connections=0)))
        await asyncio.sleep(0)

    # --------------------------------------------------------------------------------------------------------- sockets

    def _listen(self, name: str, listen: Listen, sock: socket.socket) -> None:
        if name == "tcp":
            assert self._listener is not None  # noqa: S101 - made by start
            self._tcp[identity(sock)] = sock
            self._listener.add(sock)
            return
        six = sock.family == socket.AF_INET6
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        options = []
        if ip_address(sock.getsockname()[0].partition("%")[0]).is_unspecified:
            # Only there the answer's address has to be said, which costs the kernel a tenth of all that an answer does.
            options.append(
                (level, socket.IPV6_RECVPKTINFO if six else _IP_PKTINFO, 1, "answers from the address asked")
            )
        options.append((level, _IPV6_MTU_DISCOVER if six else _IP_MTU_DISCOVER, _OMIT, "packets of a fixed size"))
        options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER, "a larger buffer"))
        for where, what, value, meaning in options:
            try:
                sock.setsockopt(where, what, value)
            except OSError as error:
                log.warning("udp %s: no %s: %s", listen, meaning, error.strerror)
        self._udp[identity(sock)] = sock

    # ------------------------------------------------------------------------------------------------------------ data

    async def _use(self, snapshot: Snapshot) -> None:
        model = snapshot.site.dns
        assert model is not None and self._listener is not None  # noqa: S101, PT018 - a role with no instance otherwise
        before = self._table
        # In a thread: with a hundred thousand names it takes a second, and queries have their turn meanwhile.
        self._open_database(snapshot)
        serial = int(time.time())
        table = await asyncio.to_thread(Table.of, model, snapshot.files, serial, before, self._database)
        self._places_failed += before.places_failed
        with self._responder.lock:  # the two tables have groups in common
            table.move(self._states, time.monotonic())
            self._snapshot, self._table = snapshot, table
            self._responder.find = table.find
            self._responder.configure(
                cookie_key(snapshot, self._random),
                nsid=model.nsid.encode() if model.nsid is not None else None,
                limit=model.udp_bytes,
                rate=model.response_rate,
                subnets=model.client_subnet,
            )
        self._listener.limits = Limits(model.tcp_connections, model.tcp_connections_per_source, model.tcp_idle)
        self._note_open()

    def _open_database(self, snapshot: Snapshot) -> None:
        """Open the MaxMind file; one that cannot be opened leaves the previous one in use."""
        fresh = snapshot.database
        if fresh is not None:
            try:
                fresh.open()
            except (ValueError, OSError) as error:
                kept = "the previous one stays in use" if self._database is not None else "answering without it"
                log.error("the MaxMind file cannot be used; %s: %s", kept, error)
                return
            fresh.close_descriptor()
        self._database = fresh

    def _look(self) -> bool:
        """Read what control says of the sites; whether that has changed."""
        stamp = self._control.stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        said = self._control.read()
        if said is None or said == self._said:
            return False
        self._said, self._states = said, states_of(said.get("sites"))
        with self._responder.lock:
            self._table.latencies.use(said.get("latencies") or {})
        return True

    def _watch(self) -> None:
        """Look, and again soon: by a timer, as a task would cost several times as much, forty times a second."""
        self._next_look = asyncio.get_running_loop().call_later(LOOK_EVERY, self._watch)
        now = time.monotonic()
        try:
            if self._look() or now - self._moved >= MOVE_EVERY:
                self._moved = now
                with self._responder.lock:
                    if self._table.move(self._states, now):
                        self._responder.forget_turns()
                self._note_open()
        except Exception as error:  # noqa: BLE001 - as a task that ends
            self._end_by(error)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY)
            for signer in list(self._table.signers.values()):
                await asyncio.to_thread(signer.renew, 2 * RENEW_EVERY)
            if self._table.signers:
                with self._responder.lock:
                    self._responder.forget()

    def _note_open(self) -> None:
        """Log the names none of whose sites work, and when one works again."""
        groups = {group for group in self._table.groups.values() if group.balance(None).open}
        found = {name for name, item in self._table.balanced.items() if item.group in groups} if groups else set()
        for name in sorted(found - self._open):
            sites = ", ".join(self._table.balanced[name].group.plan.sites)
            log.error("%s: no site works (%s); answering with the addresses of all", name, sites)
        for name in sorted(self._open - found):
            log.info("%s: a site works again", name)
        self._open = found

    async def _post(self) -> None:
        for number in count(1):
            self._bulletin.post(asdict(self.summary()))
            if number % FORGET_AFTER == 0:
                with self._responder.lock:
                    self._table.latencies.forget()
            await asyncio.sleep(POST_EVERY)

    def summary(self) -> DnsReport:
        """The data of `gateway status` about the name server."""
        listener, model = self._listener, self._snapshot.site.dns
        assert listener is not None  # noqa: S101 - made by start
        names = tuple(
            DnsNameReport(
                name=name,
                policy=item.group.plan.policy,
                shares={site: round(share, 4) for site, share in item.group.balance(None).shares.items()},
                open=name in self._open,
            )
            for name, item in islice(self._table.balanced.items(), NAMES)
        )
        with self._responder.lock:
            resolvers = self._table.latencies.asking
        report = DnsReport(
            **self._responder.counts(),
            tcp_connections=listener.connections,
            tcp_counts=dict(listener.counts),
            processes=1,
            resolvers=resolvers,
            zones=len(model.zones) if model is not None else 0,
            names=names,
            open_names=len(self._open),
            signatures=sum(signer.made for signer in self._table.signers.values()),
            places_failed=self._places_failed + self._table.places_failed,
            unsigned=sum(signer.refused for signer in self._table.signers.values()),
        )
        return report if self._counted is None else report.with_counts_of(self._counted)

    def _failed(self, task: asyncio.Task[None]) -> None:
        """A task that ends is a bug."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end_by(error)

    def _end_by(self, error: BaseException) -> None:
        """End the process, which the supervisor replaces."""
        if not self._ended.done():
            self._ended.set_exception(error)
