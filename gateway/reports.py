"""What a gateway reports about itself: a class for each part of the answer to `gateway status`.

The board, control, the supervisor and the heartbeat process fill them in; metrics, probes and the tables of `gateway
status` read them. As JSON, which gateway/admin/report_json.py reads, each is an object with the same keys. Durations
are in seconds, sizes in bytes. Counters begin when a row of the board gets its frontend, backend, server or class.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

# ------------------------------------------------------------------------------------------------------------ the board


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The counters of a frontend, backend or class: one row of the board, summed over the workers."""

    answers: tuple[int, ...]
    """Responses by the first digit of the status, from 1 on."""
    unanswered: int
    """Requests that ended without a response."""
    durations: tuple[int, ...]
    """Requests by duration: cells of a histogram, see BOUNDS of gateway/board.pyx."""
    seconds: float
    """Sum of the durations."""
    bytes_in: int
    """Bodies from clients."""
    bytes_out: int
    """Bodies to clients."""
    connections: int
    turned_away: int
    """Connections that were closed at once."""
    open: int
    """Connections of a frontend now; requests of a backend or class at servers now."""
    pauses: int
    """Times that a worker accepted no client, because file descriptors had run out."""
    queued: int
    """Requests that wait now."""
    waited: int
    """Requests that had to wait."""
    waited_seconds: float
    retried: int
    over: int
    """Requests over a limit that only counts."""
    outcomes: tuple[int, ...]
    """Requests by the number of their outcome, see OUTCOMES of gateway/outcome.pyx."""
    abuses: tuple[int, ...]
    """Ended HTTP/2 connections by the number of the reason, see ABUSES there."""
    waits: tuple[int, ...]
    """Requests that had to wait, by how long: cells as those of `durations`."""
    causes: tuple[int, ...]
    """Further tries by the number of their cause, see RETRY_CAUSES of gateway/proxy/retry.pyx."""
    handshakes: tuple[int, int]
    """TLS handshakes of clients: full ones, and those that resumed a session."""
    failed_handshakes: tuple[int, ...]
    """Failed TLS handshakes of clients by the number of the reason, see HANDSHAKES there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """A backend's concurrency limit as the board has it, and its input."""

    limit: float | None = None
    """None: not yet known."""
    why: str = "start"
    base: float | None = None
    """Response time without a queue at the servers."""
    recent: float | None = None
    """Response time now."""


# ---------------------------------------------------------------------------------------------------------- the servers


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The last result of a health check or text agent."""

    result: str
    """The name of an Outcome of gateway/health/result.py."""
    good: bool
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """How requests got their connections to a server."""

    opened: int
    """Connections that were begun."""
    reused: int
    """Requests that took an idle connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeReport:
    """TLS handshakes with a server, or of clients at a frontend."""

    full: int
    resumed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideReport:
    """What commands have set for a server over the site file; see Override of gateway/config/overrides.py."""

    state: str | None
    weight: int | None
    overrules: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """One server of a backend."""

    name: str
    address: str
    state: str
    """unknown, up or down."""
    admin: str
    """ready, drain or maintenance."""
    ejection: str
    """in rotation, ejected or probed."""
    backup: bool
    weight: int
    override: OverrideReport | None
    """None: nothing is set by a command."""
    effective_weight: float
    slow_start: float
    """Share of its normal load; 1.0: no slow start."""
    load: float | None
    """1.0: full; None: no recent report."""
    in_flight: int
    max_connections: int | None
    requests: int
    handshakes: HandshakeReport | None
    """None: no TLS."""
    pool: PoolReport
    failures: int
    busy_seconds: float
    bytes_in: int
    bytes_out: int
    sessions: int | None
    """None: no affinity."""
    check: CheckReport | None
    agent: CheckReport | None

    @property
    def in_rotation(self) -> bool:
        """Whether it is neither down nor ejected."""
        return self.state != "down" and self.ejection != "ejected"

    @property
    def available(self) -> bool:
        """Whether it gets new clients."""
        return self.in_rotation and self.admin == "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyReport:
    """Overload control of a backend; see Concurrency."""

    limit: float | None
    why: str
    base: float | None
    recent: float | None
    in_flight: int


# -------------------------------------------------------------------------------------- frontends, backends and classes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficReport:
    """What frontends, backends and classes have in common; see Traffic."""

    name: str
    answers: tuple[int, ...]
    unanswered: int
    durations: tuple[int, ...]
    seconds: float
    bytes_in: int
    bytes_out: int
    retried: int
    waited: int
    waited_seconds: float
    waits: tuple[int, ...]
    queued: int
    outcomes: Mapping[str, int]
    """Requests by outcome, without outcomes that have not occurred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendReport(TrafficReport):
    """One frontend."""

    listen: tuple[str, ...]
    limit: int
    """Most client connections at once."""
    open: int
    connections: int
    turned_away: int
    pauses: int
    over: int
    abuses: Mapping[str, int]
    handshakes: HandshakeReport | None
    """None: no TLS."""
    failed_handshakes: Mapping[str, int]
    """By reason; none without TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendReport(TrafficReport):
    """One backend with its servers."""

    balance: str
    servers: tuple[ServerReport, ...]
    retries: Mapping[str, int]
    """Further tries by their cause."""
    concurrency: ConcurrencyReport | None
    """None: no overload control."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassReport(TrafficReport):
    """One class of requests."""

    priority: int
    concurrency: int | None
    in_flight: int
    limit: str
    """Its limits, in the notation of the site file."""
    why: str
    """What holds its requests back now."""
    admitted: int
    over: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport(OverrideReport):
    """The same for one target: a server, a backend or this gateway."""

    since: float
    """Time of the last command, in seconds since 1970."""
    known: bool
    """Whether the site has the target now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverridesReport:
    """Everything that commands have set over the site file."""

    serial: int
    """Number of commands so far."""
    node: str | None
    """Admin state of this gateway; None: not set."""
    of: Mapping[str, TargetReport]
    """By target."""


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """All that passes through a gateway."""

    version: int
    """Of the snapshot."""
    frontends: tuple[FrontendReport, ...]
    backends: tuple[BackendReport, ...]
    classes: tuple[ClassReport, ...]
    overrides: OverridesReport
    lost_lines: int
    """Lines of access logs that could not be written."""


# ------------------------------------------------------------------------------------------------- sessions and memory


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceReport:
    """A client in the waiting room."""

    place: int
    silent: int
    """Seconds since its last request."""
    present: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareReport:
    """This gateway's part in the sessions of its cluster."""

    share: int | None
    silent: tuple[str, ...]
    """Nodes that have not been heard lately."""
    heard: Mapping[str, int]
    """Messages, by node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsReport:
    """Admitted and waiting clients."""

    live: int
    waiting: int
    present: int
    early: int
    admitted: int
    adopted: int
    entered: int
    advance_rate: float
    """Clients per second that leave the queue for a session."""
    measured_max: int | None
    measured_why: str
    """A name of qos.headroom.WHYS."""
    queue: tuple[PlaceReport, ...]
    """Its first clients."""
    max: int | None
    auto: bool
    places: int
    cluster: ShareReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReport:
    """Memory of the machine or of the control group; `used` and `limit` from 0 to 1."""

    used: float | None
    of: str | None
    limit: float | None
    short: bool


# ------------------------------------------------------------------------------------------------ sites and their names


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStateReport:
    """A site of the web farm, as its gateways report it."""

    up: bool
    """One of its gateways is heard."""
    draining: bool
    """None of them takes new clients."""
    load: float | None
    """1.0: full; None: unknown."""
    capacity: float | None
    """Requests per second at which it would be full; None: not yet measured."""
    trust: float
    """1: heard lately; falls to 0 while it is silent, and so does its share of clients."""
    evacuated: bool
    """One of its gateways says that it takes no new clients, by command or in a maintenance window."""
    own: bool = False
    """This gateway is of it."""
    sessions_free: int | None = None
    """Clients that it can still give a session; None: as many as come, or not known."""
    responses: float | None = None
    """Per second, of its name servers; None: it has none that works, or does not say so."""
    open_names: int = 0
    """Names none of whose sites works, as its name servers see them."""
    backends: Mapping[str, float] = field(default_factory=dict)
    """The part of each backend's servers that works; at most 64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvacuationReport:
    """How far the evacuation of this site is."""

    site: str
    by: str
    """command, window, or the name of another gateway of the site, which says so."""
    since: float
    """In seconds since 1970, as `until`."""
    until: float | None
    """End of the maintenance window; None: until `gateway evacuate-site --undo`."""
    phase: str
    """resolvers, sessions, addresses or done: what it waits for."""
    resolvers: float
    """Seconds for which resolvers may still send clients."""
    left: int
    """Sessions and requests in flight."""
    estimate: float | None
    """Seconds until the last of them have ended, at the present pace; None: unknown."""
    addresses: tuple[str, ...]
    """Shared addresses that are still here, though other nodes could take them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsNameReport:
    """A name whose addresses are those of sites."""

    name: str
    policy: str
    shares: Mapping[str, float]
    """Part of clients that gets each site first."""
    open: bool
    """None of its sites works, and all are answered."""


_DNS_COUNTERS = (
    *("udp", "tcp", "truncated", "cookies", "bad_cookies", "subnets", "edns"),
    *("signatures", "unsigned", "places_failed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsReport:
    """The name server."""

    udp: int
    """Messages received, as in tcp."""
    tcp: int
    truncated: int
    cookies: int
    """Queries with a valid cookie."""
    bad_cookies: int
    subnets: int
    """Queries with a client subnet."""
    edns: int
    codes: Mapping[str, int]
    """Responses by code."""
    dropped: Mapping[str, int]
    """Datagrams without a response, by reason."""
    tcp_connections: int
    """Open now."""
    tcp_counts: Mapping[str, int]
    """TCP connections: all, refused, timed out, malformed."""
    processes: int
    """Those that answer now; 0 in the last report of one."""
    zones: int
    names: tuple[DnsNameReport, ...]
    """The first ones."""
    open_names: int
    """Names none of whose sites works."""
    signatures: int = 0
    """Made for signed zones."""
    unsigned: int = 0
    """Queries for names that do not exist that got SERVFAIL, since there were too many to sign for."""
    resolvers: tuple[str, ...] = ()
    """Addresses that have asked lately for names with `latency`; at most 256 of each process."""
    latencies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Milliseconds from sites to them and back, as far as they are measured; at most 512 of them."""
    places_failed: int = 0
    """Lookups in the MaxMind file that have failed, because it is damaged."""

    def with_counts_of(self, other: "DnsReport") -> "DnsReport":
        """This report with the counters of both, by their names; all else is as it is here."""
        counted: dict[str, int | dict[str, int]] = {
            name: getattr(self, name) + getattr(other, name) for name in _DNS_COUNTERS
        }
        for name in ("codes", "dropped", "tcp_counts"):
            ours, theirs = getattr(self, name), getattr(other, name)
            counted[name] = {key: ours.get(key, 0) + theirs.get(key, 0) for key in {**ours, **theirs}}
        return replace(self, **counted)  # type: ignore[arg-type]  # the names are those of counters


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsUpdateReport:
    """A zone of another name server that is kept current."""

    zone: str
    server: str
    failing: str
    """Why the last update failed, by its name and in words; empty: none has."""
    foreign: tuple[str, ...]
    """Names that have other records there than those of the site file, which are left alone; the first ones."""
    counts: Mapping[str, int]
    """Sets of records that were changed, and failures by reason: timeout, connection, signature, refused, conflict,
    foreign, malformed, answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeCertificateReport:
    """A certificate that the gateway gets by ACME. Times are in seconds since 1970."""

    name: str
    state: str
    """valid, missing (there is none yet), ordering, or failed (the last order)."""
    directory: str
    not_after: int | None
    """End of validity; None: there is no certificate yet."""
    failures: int
    """Orders that failed in a row,"""
    error: str
    """and why the last one did."""
    next: int
    """When it is ordered next; a time in the past: as soon as possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeReport:
    """The certificates that the gateway gets by ACME."""

    certificates: tuple[AcmeCertificateReport, ...]
    orders: Mapping[str, int]
    """Of this gateway, by result: filled, failed."""
    silent: tuple[str, ...]
    """Gateways of the cluster that do not share certificates now."""
    refused: Mapping[str, int]
    """Refused exchanges with gateways, by reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingReport:
    """Requests that are traced, and what became of their spans."""

    exported: int
    """Requests whose spans the collector has taken,"""
    waiting: int
    """that wait for it,"""
    lost: Mapping[str, int]
    """and that are lost, by reason (gateway/tracing/outbox.py)."""
    failing: str
    """Why the collector has not taken the last ones; empty: it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapProgramReport:
    """A program that answers the keys of maps."""

    program: str
    """With its arguments."""
    found: int
    """Keys that it has a value for,"""
    none: int
    """and that it has none for."""
    failed: Mapping[str, int]
    """Keys that it has not answered, by reason (gateway/programs/counts.py)."""
    starts: int
    waiting: int
    """Keys that it is to be asked for."""
    failing: str
    """Why it has ended; empty: it has answered since."""


@dataclass(frozen=True, kw_only=True)
class ControlReport(SiteReport):
    """All that control knows."""

    sessions: SessionsReport | None
    sites: Mapping[str, float | None]
    """Load of each site; None: unknown."""
    refused: Mapping[str, Mapping[str, int]]
    """Refused datagrams, by kind and reason."""
    memory: MemoryReport
    site_states: Mapping[str, SiteStateReport]
    evacuation: EvacuationReport | None
    """None: this site is not evacuated."""
    dns: DnsReport | None
    """None: there is no name server, or it does not respond."""
    dns_updates: tuple[DnsUpdateReport, ...] = ()
    acme: AcmeReport | None = None
    tracing: TracingReport | None = None
    """None: no certificates come by ACME, or that process does not respond."""
    map_programs: tuple[MapProgramReport, ...] = ()


# ---------------------------------------------------------------------------------------------------------- processes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadReport:
    """The last reload."""

    at: float
    """When the site file in force was loaded, in seconds since 1970."""
    accepted: bool
    refused_at: float = 0.0
    """When a start or reload was refused since."""
    problems: str = ""
    changes: str = ""
    """What has changed in the files since they were loaded."""
    last_good: float | None = None
    """When the configuration in force was last in use, if the gateway started with the last good one."""
    history: int | None = None
    """The version of the history that is in force; null: what is in force is not in the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateReport:
    """One certificate. Times are in seconds since 1970."""

    file: str
    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFileReport:
    """A file of certificates that has changed and is not taken up."""

    file: str
    why: str
    since: float
    """In seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatesReport:
    """The certificates in use."""

    count: int
    soonest: tuple[CertificateReport, ...]
    """Those that are not valid yet, then those that expire first; at most 100."""
    renewals: Mapping[str, int]
    """Changes of files while the gateway ran, by result: accepted, refused."""
    refused: tuple[RefusedFileReport, ...]
    """Files whose previous content is in use, or which are left out; at most 20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapsReport:
    """Changes of the files of maps."""

    refused: Mapping[str, str]
    """What is wrong with the files of maps that keep their previous content, by the maps' names; at most 20."""
    renewals: Mapping[str, int]
    """Changes while the gateway ran, by result: accepted, refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeReport:
    """The supervisor's report on its process tree."""

    state: str
    """starting, taking over, running or stopping."""
    started: float
    """In seconds since 1970."""
    reloads: Mapping[str, int]
    """By result: accepted, refused."""
    last_reload: ReloadReport
    certificates: CertificatesReport
    maps: MapsReport
    workers: tuple[int, ...]
    """Their numbers."""
    processes: Mapping[str, int]
    """Process ids by name."""
    deaths: Mapping[str, int]
    """Unexpected exits, by process name."""
    bad_reports: Mapping[str, int]
    """Processes that were killed because of an invalid message, by name."""
    upgrades_failed: int
    sandbox: Mapping[str, bool]
    """Parts of the sandbox, and whether they are active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """One worker."""

    number: int
    silent: float
    """Seconds since it last updated its timestamp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """What one process uses."""

    name: str
    pid: int
    cpu_seconds: float
    resident_bytes: int


@dataclass(frozen=True, kw_only=True)
class StateReport:
    """The part that needs no queries of servers or processes: enough for the probe of health."""

    program: str
    """Version."""
    node: str
    cluster: bool
    tree: TreeReport
    workers: tuple[WorkerReport, ...]


@dataclass(frozen=True, kw_only=True)
class GatewayReport(ControlReport, StateReport):
    """The whole answer of control to `gateway status`."""

    processes: tuple[ProcessReport, ...]


# ------------------------------------------------------------------------------------------------------------- cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReport:
    """A link to another node."""

    alive: bool
    loss: float
    """Share of lost beats."""
    delay: float
    """Half the round-trip time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """One node of the cluster, or the witness."""

    name: str
    state: str
    """Admin state: join, standby or drain; "" for the witness and for a node that was never heard."""
    alive: bool
    own: bool = False
    """Whether it is the node that reports."""
    silent: float | None = None
    """Seconds since its last beat."""
    same_settings: bool = True
    links: Mapping[str, LinkReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressReport:
    """One shared address."""

    address: str
    state: str
    """Of this node for the address: init, backup, owner or fault."""
    owner: str | None
    reason: str
    fitness: int
    lease: float | None
    """Seconds until the lease of this node ends; None: it is not the owner."""
    leaving: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FitnessReport:
    """How well this node can serve, 1 to 255, before and after damping."""

    measured: int
    believed: int
    reason: str
    falls: int
    hold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReport:
    """An event in the life of an address."""

    at: float
    """In seconds since 1970."""
    ago: float
    about: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedBeatsReport:
    """Beats of one sender that were refused lately for one reason."""

    sender: str
    """An address, or the name of a link without addresses."""
    why: str
    count: int
    ago: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatReport:
    """The whole answer of the heartbeat process to `gateway status`."""

    node: str
    admin_state: str
    mode: str
    """may split, witness or majority."""
    votes_needed: int
    lease_enforced_by: str
    """kernel, or guardian only and the reason."""
    doubts: tuple[str, ...]
    """Kernel settings that are wrong for shared addresses."""
    nodes: tuple[NodeReport, ...]
    addresses: tuple[AddressReport, ...]
    refused: Mapping[str, int]
    """Refused beats, by reason."""
    takeovers: Mapping[str, int]
    """By address, as are the next two."""
    releases: Mapping[str, int]
    contests: Mapping[str, int]
    failures: Mapping[str, int]
    """Failed runs of external programs, by kind."""
    health: FitnessReport
    history: tuple[EventReport, ...]
    """The last events, oldest first."""
    refused_lately: tuple[RefusedBeatsReport, ...] = ()
