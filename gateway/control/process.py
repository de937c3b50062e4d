"""The control process: control's work, driven by the supervisor's orders."""

import contextlib
import encodings.idna  # noqa: F401 - before the process is confined, after which it may be inaccessible
import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import uvloop

from gateway.admin import report_json
from gateway.config.discovery import Found
from gateway.config.snapshot import Snapshot
from gateway.control import api_socket, status
from gateway.control.api_socket import ApiSocket
from gateway.control.checks import Pairs
from gateway.control.control import Control
from gateway.control.evacuation import Evacuation, Order, Present, news, still_here
from gateway.control.memory import MemoryFiles, MemoryWatch
from gateway.control.name_server import NameServer
from gateway.control.name_updates import NameUpdates
from gateway.control.operations_report import OperationsReport
from gateway.control.sessions import Sessions
from gateway.control.sites import About, Sites
from gateway.control.status import Status
from gateway.process.bulletin import Bulletin
from gateway.process.channel import Answered, Discovered
from gateway.process.child import ChildContext, LoopChild, Update, Work, run_loop
from gateway.reports import ControlReport, DnsReport, EvacuationReport, SiteStateReport
from gateway.secrets.vault import Vault

if TYPE_CHECKING:
    from gateway.control.admin_listener import AdminListener, Orders

log = logging.getLogger(__name__)

T = TypeVar("T")


def prepare(context: ChildContext) -> Work:
    """The part of the start that runs once the process is confined."""
    if context.snapshot.site.admin.listen is not None:
        import gateway.control.admin_listener  # noqa: F401, PLC0415 - a confined process may not reach what it needs
    directory = context.snapshot.site.admin.sockets
    asked = status.listen(directory, takes_over=context.takes_over)
    api = api_socket.listen(directory, takes_over=context.takes_over)
    memory = MemoryFiles()
    return partial(run_loop, lambda: ControlProcess(context, asked, api, memory), uvloop.new_event_loop)


def _opened(vault: Vault | None) -> Pairs:
    """What checks show to servers, and the listener to operators."""
    if vault is None:
        return {}
    with vault.open() as secrets:
        found = {key: (pair.cert, bytes(pair.key)) for key, pair in (secrets.pairs or {}).items()}
    vault.close()
    return found


def _said(bulletin: Bulletin, read: Callable[[object], T]) -> T | None:
    """The report in a bulletin; None: there is none yet, or, of a compromised process, one that cannot be read."""
    said = bulletin.read()
    with contextlib.suppress(report_json.Unreadable):
        return read(said) if said is not None else None
    return None


class ControlProcess(LoopChild):
    """Control, the loads of other sites, and the answers to operators."""

    def __init__(
        self, context: ChildContext, asked: socket.socket | None, api: ApiSocket | None, memory: MemoryFiles
    ) -> None:
        super().__init__(context.channel)
        board = context.board
        self._snapshot = context.snapshot
        self._pairs = _opened(context.vault)
        self._sockets = {name: sock for name, places in context.sockets.items() for _, sock in places}
        self._control = Control(
            board, self._sockets.pop("reports", None), self._tell, rates=context.rates, sessions=context.sessions
        )
        self._name_server = NameServer(context.bulletins_of("dns"))
        self._name_updates = NameUpdates()
        self._bulletin = context.bulletins["control"]
        self._acme = context.bulletins["acme"]
        self._tracing = context.bulletins["tracing"]
        self._programs = context.bulletins["programs"]
        self._sites = Sites(board, self._tell_states, self._about)
        self._sessions = Sessions(context.sessions)
        self._evacuation = Evacuation()
        self._evacuated: EvacuationReport | None = None
        self._memory = MemoryWatch(board, memory)
        bulletins = context.bulletins["supervisor"], context.bulletins["heartbeat"]
        self._operations = OperationsReport(board, *bulletins, self._known)
        self._orders: Orders | None = None
        self._listener: AdminListener | None = None
        self._api = api
        self._status = Status(asked, board, lambda: asdict(self._operations.report())) if asked is not None else None

    async def start(self) -> None:
        """Start with the initial snapshot."""
        await self._use(self._snapshot, self._sockets)
        if self._api is not None:
            self._api.wait(self._answer_here)

    async def go_over(self, update: Update) -> None:
        """Switch to another snapshot, and to other sockets."""
        self._pairs = _opened(update.vault)
        await self._use(update.snapshot, update.named())

    def drain(self, seconds: float) -> None:  # noqa: ARG002 - nothing here takes long
        """End."""
        self.end()

    async def close(self) -> None:
        """Stop everything; traffic continues with the data on the Board."""
        if self._status is not None:
            self._status.close()
        if self._api is not None:
            self._api.close()
        if self._listener is not None:
            self._listener.close()
        await self._memory.close()
        await self._name_updates.close()
        await self._sites.close()
        await self._control.close()

    async def _use(self, snapshot: Snapshot, new: dict[str, socket.socket]) -> None:
        await self._control.apply(snapshot, new.get("reports"), new.get("hints"), self._pairs)
        self._snapshot = snapshot
        self._sessions.apply(snapshot)
        self._memory.apply(snapshot)
        await self._name_updates.apply(snapshot)
        await self._sites.apply(snapshot, new.get("sites"), new.get("site streams"))
        self._operations.apply(snapshot)
        self._listen(snapshot, new.get("admin"))
        if self._status is not None:
            self._status.apply(snapshot)
        self.ready(snapshot.version)

    def _listen(self, snapshot: Snapshot, sock: socket.socket | None) -> None:
        """Answer operators at `sock`, if that is new. What that needs was imported by `prepare`: the first listener
        comes with a new process (CONTROL of gateway/supervisor/roles.py).
        """
        if self._listener is None and sock is not None:
            self._listener = self._new_listener()
        if self._listener is not None:
            self._listener.apply(snapshot, sock, self._pairs)

    def _new_listener(self) -> "AdminListener":
        from gateway.control.admin_listener import AdminListener, Orders  # noqa: PLC0415

        self._orders = Orders(self.report)
        return AdminListener(self._operations, self._orders)

    def _answer_here(self, sock: socket.socket, users: Mapping[int, str]) -> None:
        """Answer at the Unix socket, too."""
        if self._listener is None:
            self._listener = self._new_listener()
            self._listener.apply(self._snapshot, None, self._pairs)
        self._listener.answer_here(sock, users)

    def answered(self, answer: Answered, descriptors: list[int]) -> None:
        """Pass the supervisor's answer on to who waits for it."""
        if self._orders is not None:
            self._orders.answered(answer, descriptors)

    def _known(self) -> ControlReport:
        exchange, servers = self._control.exchange, self._control.servers()
        return ControlReport(
            version=servers.version,
            frontends=servers.frontends,
            backends=servers.backends,
            classes=servers.classes,
            overrides=servers.overrides,
            lost_lines=servers.lost_lines,
            sessions=self._sessions.report(exchange.report() if exchange is not None else None),
            sites=self._sites.loads(),
            refused={**self._control.refused, "site report": dict(self._sites.refused)},
            memory=self._memory.report(),
            site_states=self._sites.states(),
            evacuation=self._evacuated,
            dns=self._dns_report(),
            dns_updates=self._name_updates.report(),
            acme=_said(self._acme, report_json.acme) if self._snapshot.site.gets_certificates else None,
            tracing=_said(self._tracing, report_json.tracing) if self._snapshot.site.tracing is not None else None,
            map_programs=(_said(self._programs, report_json.map_programs) or ()) if self._snapshot.programs else (),
        )

    def _dns_report(self) -> DnsReport | None:
        found = self._name_server.report() if self._snapshot.site.dns is not None else None
        return replace(found, latencies=self._sites.latencies()) if found is not None else None

    def _tell_states(self, states: Mapping[str, SiteStateReport]) -> None:
        """Tell the name server the states of the sites, and heartbeat whether shared addresses may move."""
        self._evacuate()
        # The health of backends concerns nobody there, and may be long.
        said = {name: asdict(replace(state, backends={})) for name, state in states.items()}
        self._name_updates.tell(said)
        self._bulletin.post(
            {"sites": said, "released": self._evacuation.released, "latencies": self._sites.latencies()}
        )

    def _about(self) -> About:
        """What other sites are told of this gateway besides its load."""
        exchange = self._control.exchange
        sessions = self._sessions.report(exchange.report() if exchange is not None else None)
        free = None
        if sessions is not None and sessions.max is not None:
            share = sessions.cluster.share if sessions.cluster is not None else None
            free = max(0, (sessions.max if share is None else share) - sessions.live)
        dns = self._name_server.report() if self._snapshot.site.dns is not None else None
        if dns is None:
            return About(free)
        return About(free, sum(dns.codes.values()), dns.open_names, dns.resolvers)

    def _evacuate(self) -> None:
        """Go on with the evacuation of this site, if it is ordered."""
        order, model = self._sites.evacuation(), self._snapshot.site.sites
        self._sessions.close(closed=order is not None)
        before = self._evacuated
        self._evacuated = self._evacuation.step(
            order, model.self_ if model is not None else "", self._sites.ttl(), self._present(order), time.time()
        )
        if said := news(before, self._evacuated):
            log.warning("%s", said)

    def _present(self, order: Order | None) -> Present:
        """What is still here; without an order nobody asks."""
        if order is None:
            return Present(0)
        sessions = self._sessions.report(None)
        servers = [server for backend in self._control.servers().backends for server in backend.servers]
        affinity = sum(server.sessions or 0 for server in servers) if sessions is None else sessions.live
        left = affinity + sum(server.in_flight for server in servers)
        return still_here(left, self._operations.overheard()) if self._snapshot.site.cluster else Present(left)

    def _tell(self, found: Found) -> None:
        """Send the name service's answers to the supervisor."""
        try:
            self.report(Discovered(found))
        except ValueError as error:
            log.error("ignoring a DNS answer that is too large: %s", error)
