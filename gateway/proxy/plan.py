"""Compiles a snapshot into the objects that a worker uses: servers, backends, routes, pages, frontends."""

import asyncio
import hashlib
import secrets
import socket
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Final

from gateway.balance.affinity import (
    Affinity,
    CookieAffinity,
    HeaderAffinity,
    LearnedAffinity,
    SourceAffinity,
    UrlAffinity,
)
from gateway.balance.policies import new_policy
from gateway.balance.policy import Members
from gateway.config import template, user_files
from gateway.config.access_log import LOG_FIELDS, AccessLogs
from gateway.config.certificate_files import managed
from gateway.config.files import SYSTEM_CAS
from gateway.config.model import Affinity as AffinityModel
from gateway.config.model import Frontend as FrontendModel
from gateway.config.model import Listen, Route, Site, Tls
from gateway.config.qos import QosClass as ClassModel
from gateway.config.qos import WaitingRoom
from gateway.config.route_settings import NO_AFFINITY, RouteRetries, changed, statuses
from gateway.config.snapshot import ServerKey, Snapshot
from gateway.proxy.availability import Availability
from gateway.proxy.backend import Backend
from gateway.proxy.challenges import Challenges
from gateway.proxy.http1_client import Http1ClientProtocol
from gateway.proxy.http1_server import Http1ServerProtocol
from gateway.proxy.http2_client import Http2ClientProtocol
from gateway.proxy.http2_server import Http2Server, Http2ServerProtocol, Http2TlsServer
from gateway.proxy.lanes import Lanes
from gateway.proxy.log import AccessLog, layout
from gateway.proxy.overload import Overload
from gateway.proxy.qos_class import QosClass
from gateway.proxy.queue import WaitQueue
from gateway.proxy.retry import Retries
from gateway.proxy.server import Server, TlsServer
from gateway.proxy.session_gate import SessionGate
from gateway.proxy.syslog import Sender, prefix, sender
from gateway.proxy.tls import Identity, ServerContext, Trust
from gateway.proxy.tls_to_servers import ClientContext
from gateway.proxy.tracing import Tracing
from gateway.proxy.worker_context import ClientProtocol, Frontend, Gauge, WorkerContext
from gateway.rules.compiler import compile_routes, fair_by, map_lookups, rate_limit, when_full
from gateway.rules.rate_limit import RateLimit
from gateway.rules.routes import RouteTable
from gateway.secrets.keys import derive
from gateway.secrets.pairs import Pair
from gateway.secrets.vault import Secrets
from gateway.wire.pages import HTML, TYPES, pages
from gateway.wire.waiting_page import WaitingPage, full_page
from qos.sessions import SessionTable, size

ContextKey = tuple[str, bool, str, str, bool, bytes, bool, tuple[str, ...], tuple[str, ...], bytes, bool]
"""The name of a frontend, whether it offers HTTP/2, its policy, its oldest TLS version, whether it refuses unknown
names, the CAs of its clients (empty: they are not asked), whether a certificate is required, the digests of its own,
of these those that sessions are bound to, the secret of its ticket keys, whether it answers certificate authorities."""

ClientKey = tuple[bytes, str, str, bool]
"""The digest of the CAs that are trusted (empty: servers are not verified), the oldest TLS version, the digest of the
certificate to show (empty: none), whether HTTP/2 is offered."""

ALONE = 1024
"""Sessions and places of a table that is not shared with other workers."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A compiled snapshot that is not in use yet; it no longer refers to the site model."""

    version: int
    drain: float
    """Seconds."""
    via: bytes
    """A complete header line."""
    node: str
    log: AccessLogs
    servers: dict[ServerKey, Server]
    backends: dict[str, Backend]
    routes: RouteTable
    contexts: dict[ContextKey, ServerContext]
    identities: dict[str, Identity]
    to_servers: dict[ClientKey, ClientContext]
    frontends: dict[Listen, Frontend]
    pages: dict[int, tuple[bytes, bytes]]
    custom_pages: frozenset[int]
    learned: tuple[bytes, ...]
    """Names of cookies that affinity marks."""
    classes: dict[str, QosClass] | None
    gate: SessionGate | None
    admits: bool
    """See WorkerContext."""
    rules: bool
    """Whether the site has Apache rules,"""
    users: bool
    """and users that log in at the gateway."""
    routes_at: tuple[str, ...]
    """The site file, and the line of each route."""
    challenges: Challenges | None
    sample: float | None
    """Share of requests that are traced; None: the site has no tracing."""


LAST_LINES: Final = 5.0
"""Seconds that receivers of a log have which a reload has removed."""


@dataclass(frozen=True, slots=True)
class _Log:
    """How the access logs are written. `fd`: of the one with a path; None: there is none."""

    fd: int | None
    models: AccessLogs
    node: str
    classes: bool
    sessions: bool
    rules: bool
    users: bool


class Plan:
    """The compiled form of successive snapshots, for one worker.

    Servers that a reload does not change stay the same objects, and so keep their idle connections. `writes`: access
    logs; trials of a site do not.
    """

    def __init__(
        self,
        context: WorkerContext,
        challenges: Challenges | None = None,
        spans: socket.socket | None = None,
        *,
        writes: bool = False,
    ) -> None:
        """`challenges`: what certificate authorities may check, for sites that get certificates from one. `spans`:
        where sampled requests are told of; None: they are not.
        """
        self.context = context
        self._challenges = challenges
        self._spans = spans
        self._sample: float | None = None
        self._writes = writes
        self._to_servers = Http1ServerProtocol()
        self._to_servers_http2 = Http2ServerProtocol()
        self._http1 = Http1ClientProtocol()
        self._http2 = Http2ClientProtocol()
        self.servers: dict[ServerKey, Server] = {}
        self.frontends: dict[Listen, Frontend] = {}
        self.backends: dict[str, Backend] = {}
        self._contexts: dict[ContextKey, ServerContext] = {}
        self._identities: dict[str, Identity] = {}
        self._to_servers_tls: dict[ClientKey, ClientContext] = {}
        self._log: _Log | None = None
        self._logs: list[AccessLog] = []
        self._senders: list[Sender] = []
        self._closing: set[asyncio.Task[None]] = set()

    def apply(self, snapshot: Snapshot, secrets: Secrets, cells: int, log_fd: int | None) -> None:
        """Make the context use `snapshot` from the next request on. Raises ValueError, and then changes nothing.

        The first `cells` workers' counts on the Board are summed for the whole machine.
        """
        self.adopt(self.prepare(snapshot, secrets, cells), log_fd)

    def prepare(self, snapshot: Snapshot, secrets: Secrets, cells: int) -> Prepared:
        """Make the input of `adopt`; changes nothing, so that it may run in a thread. Raises ValueError."""
        site = snapshot.site
        local = {
            (name, server.name)
            for name, backend in site.backends.items()
            for server in backend.servers
            if server.address.is_localhost
        }
        to_servers, called = self._tls(snapshot, secrets)
        servers = {key: self._server(key, snapshot, called.get(key), localhost=key in local) for key in snapshot.slots}
        secret = self.context.admission.rates.secret
        maps = map_lookups(site, snapshot.maps)
        classes = {
            item.name: self._class(lane, item, snapshot, cells, rate_limit(item.name, item, secret, maps=maps))
            for lane, item in enumerate(site.qos.classes)
        }
        backends = {name: self._backend(name, snapshot, secrets.own, servers, classes, cells) for name in site.backends}
        varieties = self._varieties(snapshot, secrets.own, servers, backends)
        routes = compile_routes(site, backends, snapshot.files, snapshot.rules, secret, maps, varieties=varieties)
        gauges = {frontend.name: frontend.gauge for frontend in self.frontends.values()}
        contexts: dict[ContextKey, ServerContext] = {}
        identities: dict[str, Identity] = {}
        frontends: dict[Listen, Frontend] = {}
        # Servers may be reached through any of them.
        guards = any(model.tls is not None and model.tls.client_ca is not None for model in site.frontends)
        # An authority may ask at any frontend: by its address and the port of the challenge, whatever that is for.
        challenges = self._challenges if site.gets_certificates else None
        for model in site.frontends:
            tls = None
            if model.tls is not None and secrets.pairs is not None:
                key, pairs = _context_key(model, model.tls, snapshot, secrets)
                tls = contexts[key] = self._context(key, pairs, identities, challenges)
            gauge = gauges.get(model.name) or self._gauge(model.name, snapshot)
            protocol = self._http2 if model.http2 else self._http1
            frontend = _frontend(model, site.workers, tls, gauge, protocol, guards=guards, secret=secret)
            frontends.update(dict.fromkeys(model.listen, frontend))
        custom = {status: (path.name, snapshot.files[path]) for status, path in site.pages.items()}
        return Prepared(
            version=snapshot.version,
            drain=site.drain,
            via=f"Via: 1.1 {_via_token(site.node)}\r\n".encode(),
            node=site.node,
            log=site.access_log,
            servers=servers,
            backends=backends,
            routes=routes,
            contexts=contexts,
            identities=identities,
            to_servers=to_servers,
            frontends=frontends,
            pages=pages(custom),
            custom_pages=frozenset(custom),
            learned=_learned(site),
            classes=classes or None,
            gate=self._gate(snapshot, secrets.own, backends),
            admits=bool(classes)
            or site.qos.sessions is not None
            or any(route.rate is not None for route in site.routes),
            rules=bool(snapshot.rules),
            users=any(user_files.paths(site, snapshot.rules)),
            routes_at=snapshot.routes_at,
            challenges=challenges,
            sample=site.tracing.sample if site.tracing is not None else None,
        )

    def adopt(self, prepared: Prepared, log_fd: int | None) -> None:
        """Make the context use it from the next request on."""
        context = self.context
        servers, backends = prepared.servers, prepared.backends
        for name, backend in backends.items():
            if name in self.backends:
                backend.adopt(self.backends[name])
        self.backends = backends
        self._contexts = prepared.contexts
        self._identities = prepared.identities
        self._to_servers_tls = prepared.to_servers
        for key, server in self.servers.items():
            if servers.get(key) is not server:
                server.retire()
        self.servers = servers
        self.frontends = prepared.frontends
        context.routes = prepared.routes
        context.view.resources = Availability(backends, context.board)
        context.via = prepared.via
        context.pages = prepared.pages
        context.custom_pages = prepared.custom_pages
        context.learned = prepared.learned
        context.classes = prepared.classes
        context.gate = prepared.gate
        if context.gate is not None:
            context.gate.take_up(time.monotonic_ns())
        context.admits = prepared.admits
        context.routes_at = prepared.routes_at
        context.challenges = prepared.challenges
        self._trace(prepared.sample)
        wanted = _Log(
            log_fd if any(model.path is not None for model in prepared.log) else None,
            prepared.log if self._writes else (),
            prepared.node,
            classes=self.context.classes is not None,
            sessions=self.context.gate is not None,
            rules=prepared.rules,
            users=prepared.users,
        )
        if wanted != self._log:
            self._open_logs(wanted)

    def _trace(self, sample: float | None) -> None:
        """Trace this share of the requests that come from now on."""
        if self._spans is None or sample == self._sample:
            return
        self._sample = sample
        self.close_tracing()
        if sample is not None:
            self.context.tracing = Tracing(self.context, self._spans.fileno(), sample)

    def close_tracing(self) -> None:
        """Send what is left of sampled requests."""
        if self.context.tracing is not None:
            self.context.tracing.close()
            self.context.tracing = None

    def move_log(self, fd: int) -> None:
        """Continue the access log in another file."""
        if self._log is not None and self._log.fd is not None:
            self._log = replace(self._log, fd=fd)
            for model, log in zip(self._log.models, self._logs, strict=True):
                if model.path is not None:
                    log.reopen(fd)

    async def close_logs(self, seconds: float) -> None:
        """Write what is left; what goes to receivers has `seconds`."""
        for task in self._close_logs(seconds):
            await task

    def _close_logs(self, seconds: float) -> list[asyncio.Task[None]]:
        self.context.log = None
        for log in self._logs:
            log.close()
        tasks = [asyncio.ensure_future(sender.close(seconds)) for sender in self._senders]
        for task in tasks:
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._logs, self._senders = [], []
        return tasks

    def _open_logs(self, wanted: "_Log") -> None:
        """Write the logs as wanted from now on."""
        self._close_logs(LAST_LINES)
        self._log = wanted
        loop, board, worker = self.context.poller.loop, self.context.board, self.context.worker
        lost = partial(board.lose_lines, worker)
        following = None
        for model in reversed(wanted.models):
            pairs = () if model.format in ("json", "combined") else template.log_parts(model.format, LOG_FIELDS)
            receiver = sender(loop, model.syslog.to, lost) if model.syslog is not None else None
            lines = layout(
                model.format,
                pairs,
                classes=wanted.classes,
                sessions=wanted.sessions,
                rules=wanted.rules,
                users=wanted.users,
                syslog=prefix(model.syslog, wanted.node) if model.syslog is not None else None,
            )
            fd = -1 if receiver is not None or wanted.fd is None else wanted.fd
            following = AccessLog(
                loop, fd, model.format, lines, sender=receiver, lost=lost, sample=model.sample, following=following
            )
            self._logs.insert(0, following)
            if receiver is not None:
                self._senders.append(receiver)
        self.context.log = following

    def _gauge(self, frontend: str, snapshot: Snapshot) -> Gauge:
        return Gauge(self.context.board, snapshot.traffic["frontend", frontend], self.context.worker)

    def _gate(self, snapshot: Snapshot, own: bytes, backends: Mapping[str, Backend]) -> SessionGate | None:
        model = snapshot.site.qos.sessions
        if model is None:
            return None
        table = self.context.sessions or SessionTable(
            bytearray(size(ALONE, ALONE)), secrets.token_bytes(16), slots=ALONE, ring=ALONE
        )
        room = model.waiting_room or WaitingRoom()
        page = snapshot.files[model.full.page] if model.full.page is not None else None
        kind = TYPES.get(model.full.page.suffix, HTML) if model.full.page is not None else HTML
        return SessionGate(
            table,
            derive(own, b"session tickets"),
            most=model.max,
            idle=ceil(model.idle),
            places=room.places if model.waiting_room is not None else 0,
            refresh=ceil(room.refresh),
            opens=int(model.opens or 0),
            cookie=model.key.cookie,
            url=model.key.url,
            page=WaitingPage(
                ceil(room.refresh), None if room.page is None else snapshot.files[room.page], int(model.opens or 0)
            ),
            full=(model.full.status, kind, full_page(model.full.status) if page is None else page),
            elsewhere=when_full(snapshot.site, snapshot.files),
            backends=list(backends.values()),
        )

    def _context(
        self,
        key: ContextKey,
        pairs: Sequence[Pair],
        identities: dict[str, Identity],
        challenges: Challenges | None,
    ) -> ServerContext:
        """The TLS context for certificates; the existing one if they are the same. Adds to `identities` by digest."""
        name, http2, policy, min_version, strict, cas, required, _, bound, secret, _ = key
        for pair in pairs:
            if pair.digest not in identities:
                identities[pair.digest] = self._identities.get(pair.digest) or _identity(pair)
        return self._contexts.get(key) or ServerContext(
            name,
            [identities[pair.digest] for pair in pairs],
            bound=bound,
            secret=secret,
            policy=policy,
            min_version=min_version,
            http2=http2,
            strict=strict,
            clients=Trust(cas) if cas else None,
            required=required,
            challenges=challenges,
        )

    def _tls(
        self, snapshot: Snapshot, secrets: Secrets
    ) -> tuple[dict[ClientKey, ClientContext], dict[ServerKey, tuple[ClientContext, str | None]]]:
        """The TLS contexts for servers, those there are if they are the same; which server has which, and its name."""
        contexts: dict[ClientKey, ClientContext] = {}
        trusts: dict[bytes, Trust] = {}
        called: dict[ServerKey, tuple[ClientContext, str | None]] = {}
        if secrets.pairs is None:
            return contexts, called
        for name, backend in snapshot.site.backends.items():
            for server in backend.servers:
                tls = backend.tls_to(server)
                if tls is None:
                    continue
                cas = snapshot.files[tls.ca or SYSTEM_CAS] if tls.verify else b""
                digest = hashlib.sha256(cas).digest() if tls.verify else b""
                pair = secrets.pairs[tls.certificate.cert, tls.certificate.key] if tls.certificate else None
                key = digest, tls.min_version, pair.digest if pair else "", backend.h2
                if tls.verify and digest not in trusts:
                    trusts[digest] = Trust(cas)
                if key not in contexts:
                    contexts[key] = self._to_servers_tls.get(key) or ClientContext(
                        trusts.get(digest),
                        tls.min_version,
                        _identity(pair) if pair else None,
                        backend.h2,
                    )
                called[name, server.name] = contexts[key], tls.name_for(server.address)
        return contexts, called

    def _server(
        self, key: ServerKey, snapshot: Snapshot, tls: tuple[ClientContext, str | None] | None, *, localhost: bool
    ) -> Server:
        slot, address = snapshot.slots[key], snapshot.resolved[key]
        proxy, h2 = snapshot.site.backends[key[0]].proxy_version, snapshot.site.backends[key[0]].h2
        known = self.servers.get(key)
        if known is not None and (known.slot, known.address, known.proxy_version, _tls_of(known), _shares(known)) == (
            slot, address, proxy, tls, h2,
        ):  # fmt: skip
            return known
        board, worker = self.context.board, self.context.worker
        if tls is None:
            kind = Http2Server if h2 else Server
            return kind(*key, address, board, slot, worker, localhost=localhost, proxy_version=proxy)
        secure = Http2TlsServer if h2 else TlsServer
        return secure(*tls, *key, address, board, slot, worker, localhost=localhost, proxy_version=proxy)

    def _backend(
        self,
        name: str,
        snapshot: Snapshot,
        own: bytes,
        servers: Mapping[ServerKey, Server],
        classes: Mapping[str, QosClass],
        cells: int,
    ) -> Backend:
        model = snapshot.site.backends[name]
        members = Members(self.context.board, snapshot.members(name), cells, secrets.randbits(64))
        queue = snapshot.site.queue(name)
        overload = self._overload(name, snapshot, members, cells)
        lanes = None
        if classes and queue is not None:
            lanes = Lanes(
                self.context.board,
                members,
                self.context.worker,
                cells,
                _class_shares(name, snapshot, classes),
                overload,
            )
        inside = [servers[name, server.name] for server in model.servers]
        return Backend(
            name,
            inside,
            members,
            new_policy(model.balance),
            (model.timeouts.connect, model.timeouts.response, model.timeouts.idle, model.timeouts.tunnel),
            _affinity(model.affinity, members, inside, snapshot, own),
            Retries(
                model.retries.attempts,
                model.retries.on,
                model.retries.statuses,
                model.retries.methods,
                model.retries.budget,
            ),
            WaitQueue(
                self.context.poller,
                self.context.board,
                inside[0].slot if inside else -1,
                self.context.worker,
                cells,
                queue.limit if queue else 0,
                queue.timeout if queue else 1.0,
                lanes,
                overload,
                snapshot.traffic["backend", name],
            ),
            self._to_servers_http2 if model.h2 else self._to_servers,
            traffic=snapshot.traffic["backend", name],
            orca=model.agent.orca,
        )

    def _varieties(
        self, snapshot: Snapshot, own: bytes, servers: Mapping[ServerKey, Server], backends: Mapping[str, Backend]
    ) -> dict[int, dict[str, Backend]]:
        """For each route with settings of its own the backends that it uses, with these."""
        made: dict[tuple[str, Hashable], Backend] = {}
        found: dict[int, dict[str, Backend]] = {}
        for i, route in enumerate(snapshot.site.routes):
            if route.settings is None:
                continue
            for name in route.backends:
                key = name, route.settings
                if key not in made:
                    made[key] = _variety(route, backends[name], snapshot, own, servers)
                found.setdefault(i, {})[name] = made[key]
        return found

    def _overload(self, backend: str, snapshot: Snapshot, members: Members, cells: int) -> Overload | None:
        model = snapshot.site.qos.overload
        if model is None:
            return None
        return Overload(
            self.context.board,
            members,
            snapshot.traffic["backend", backend],
            self.context.worker,
            cells,
            concurrency=model.concurrency,
            target=model.target_delay or 0.0,
            newest_first=model.newest_first,
            fair_by=fair_by(model, self.context.admission.rates.secret),
        )

    def _class(self, lane: int, model: ClassModel, snapshot: Snapshot, cells: int, limit: RateLimit | None) -> QosClass:
        return QosClass(
            model.name,
            self.context.board,
            self.context.worker,
            cells,
            traffic=snapshot.traffic["class", model.name],
            lane=lane,
            priority=model.priority,
            admit=model.admit,
            limit=limit,
            concurrency=model.concurrency or 0,
            dry_run=model.dry_run,
            bandwidth=model.bandwidth or 0,
            total_bandwidth=model.total_bandwidth or 0,
            rates=self.context.admission.rates,
        )


def _identity(pair: Pair) -> Identity:
    return Identity(pair.cert, pair.key, pair.names, pair.kind, pair.ocsp or None, pair.ocsp_until)


def _tls_of(server: Server) -> tuple[ClientContext, str | None] | None:
    return (server.context, server.called) if isinstance(server, TlsServer) else None


def _shares(server: Server) -> bool:
    """Whether requests share connections to it."""
    return isinstance(server, Http2Server | Http2TlsServer)


def _class_shares(
    backend: str, snapshot: Snapshot, classes: Mapping[str, QosClass]
) -> list[tuple[QosClass, float, int]]:
    """The classes in the form that Lanes needs."""
    return [
        (classes[item.name], item.share or 0.0, snapshot.traffic.get(("share", f"{item.name} {backend}"), -1))
        for item in snapshot.site.qos.classes
    ]


def _via_token(node: str) -> str:
    """The node's name as a pseudonym (RFC 9110 section 7.6.3: a token)."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "-._~") else "-" for char in node) or "gateway"


def _learned(site: Site) -> tuple[bytes, ...]:
    """Names of the cookies that servers set and affinity marks."""
    kept = (model for _, _, model in site.affinities())
    return tuple(sorted({model.cookie.encode() for model in kept if model.learn and model.cookie}))


def _variety(
    route: Route, backend: Backend, snapshot: Snapshot, own: bytes, servers: Mapping[ServerKey, Server]
) -> Backend:
    """A backend with the settings of a route."""
    model = snapshot.site.backends[backend.name]
    inside = [servers[backend.name, server.name] for server in model.servers]
    affinity = model.affinity if route.affinity is None else route.affinity
    retries = route.retries or RouteRetries()
    causes = model.retries.on if retries.on is None else retries.on
    return backend.variety(
        route.settings,
        changed(route.timeouts, model.timeouts),
        _affinity(affinity, backend.members, inside, snapshot, own),
        Retries(
            model.retries.attempts if retries.attempts is None else retries.attempts,
            causes,
            statuses(causes),
            model.retries.methods if retries.methods is None else retries.methods,
            model.retries.budget,
        ),
    )


def _affinity(
    model: AffinityModel | None, members: Members, servers: Sequence[Server], snapshot: Snapshot, own: bytes
) -> Affinity | None:
    if model is None or model is NO_AFFINITY:
        return None
    if model.url is not None:
        return UrlAffinity(members, model.url, [server.name for server in servers])
    if model.source is not None:
        return SourceAffinity(members, model.source)
    if model.header is not None:
        return HeaderAffinity(members, model.header)
    if model.key_file is not None:
        key = hashlib.sha256(snapshot.files[model.key_file].strip()).digest()
    else:
        key = derive(own, b"affinity cookies")
    kind = LearnedAffinity if model.learn else CookieAffinity
    return kind(members, model.cookie or "", model.attributes, key, [server.token for server in servers])


def _context_key(model: FrontendModel, tls: Tls, snapshot: Snapshot, secrets: Secrets) -> tuple[ContextKey, list[Pair]]:
    """The key of a frontend's TLS context, and the certificates in it.

    Sessions end with a certificate that the site file names. Of a directory with thousands some change every day, so
    they end as the ticket keys rotate.
    """
    shared = snapshot.files[tls.ticket_key_file].strip() if tls.ticket_key_file is not None else secrets.own
    pairs, bound = [], []
    for source in tls.certificates:
        found = secrets.pairs_of(source)
        pairs += found
        bound += [pair.digest for pair in found if source.directory is None]
    if tls.acme is not None:
        found = secrets.pairs_of(managed(snapshot.site, tls))
        # Clients of an IP address name no server, and get the first.
        pairs = [pair for pair in found if not pair.names] + pairs + [pair for pair in found if pair.names]
    key = (
        model.name,
        model.http2,
        tls.policy,
        tls.min_version,
        tls.strict_sni,
        snapshot.files[tls.client_ca] if tls.client_ca is not None else b"",
        tls.require_client_cert,
        tuple(pair.digest for pair in pairs),
        tuple(bound),
        derive(shared, b"TLS tickets"),
        snapshot.site.gets_certificates,
    )
    return key, pairs


def _frontend(  # noqa: PLR0913 - what it is made of
    model: FrontendModel,
    workers: int,
    tls: ServerContext | None,
    gauge: Gauge,
    protocol: ClientProtocol,
    *,
    guards: bool,
    secret: bytes,
) -> Frontend:
    limits = model.limits
    return Frontend(
        model.name,
        header_bytes=limits.header_bytes,
        url_bytes=limits.url_bytes,
        header_count=limits.header_count,
        body_bytes=limits.body_bytes,
        header_timeout=limits.header_timeout,
        idle_timeout=limits.idle_timeout,
        body_rate=limits.body_rate,
        # One worker's part: the kernel distributes clients evenly.
        connections=ceil(limits.connections / workers),
        connections_per_source=limits.connections_per_source,
        proxy_protocol=model.proxy_protocol,
        merge_slashes=model.merge_slashes,
        encoded_slashes=model.encoded_slashes,
        path_parameters=model.path_parameters,
        tls=tls,
        trusted=model.trusted_proxies,
        client_from=model.client_from or "",
        gauge=gauge,
        protocol=protocol,
        guards=guards,
        handshakes_per_source=limits.handshakes_per_source or 0,
        secret=secret,
        hsts=model.tls.hsts.value if model.tls is not None and model.tls.hsts is not None else "",
        http2=model.http2,
    )
