"""Reports of control and the heartbeat process, for the tests of what is made of them."""

from dataclasses import replace
from typing import Any, Final

from gateway.admin.access import Caller
from gateway.reports import (
    AcmeCertificateReport,
    AcmeReport,
    AddressReport,
    BackendReport,
    CertificateReport,
    CertificatesReport,
    CheckReport,
    ClassReport,
    ConcurrencyReport,
    DnsNameReport,
    DnsReport,
    DnsUpdateReport,
    FitnessReport,
    FrontendReport,
    GatewayReport,
    HandshakeReport,
    HeartbeatReport,
    LinkReport,
    MapProgramReport,
    MapsReport,
    MemoryReport,
    NodeReport,
    OverridesReport,
    PlaceReport,
    PoolReport,
    ProcessReport,
    ReloadReport,
    ServerReport,
    SessionsReport,
    SiteStateReport,
    TracingReport,
    TreeReport,
    WorkerReport,
)

ALICE: Final = Caller("alice", "operate")
PASSED: Final[dict[str, Any]] = {
    "answers": (0, 5, 1, 2, 3),
    "unanswered": 4,
    "durations": (1, 2, *[0] * 12, 3, 9),
    "seconds": 2.5,
    "bytes_in": 30,
    "bytes_out": 40,
    "retried": 1,
    "waited": 2,
    "waited_seconds": 0.5,
    "waits": (0, 1, *[0] * 13, 1),
    "queued": 3,
    "outcomes": {"ok": 6, "client_left": 4, "connect_refused": 1},
}
"""The fields of a TrafficReport but its name."""
CHECK: Final = CheckReport(result="OK", good=True, seconds=0.003, detail="")
SERVER: Final = ServerReport(
    name="app1",
    address="127.0.0.1:1",
    state="up",
    admin="ready",
    ejection="in rotation",
    backup=False,
    weight=1,
    override=None,
    effective_weight=0.5,
    slow_start=1.0,
    load=0.25,
    in_flight=5,
    max_connections=20,
    requests=7,
    handshakes=HandshakeReport(full=3, resumed=4),
    pool=PoolReport(opened=2, reused=15),
    failures=2,
    busy_seconds=1.5,
    bytes_in=10,
    bytes_out=20,
    sessions=None,
    check=CHECK,
    agent=None,
)
FRONTEND: Final = FrontendReport(
    name="web",
    listen=("127.0.0.1:8080",),
    limit=100,
    open=6,
    connections=50,
    turned_away=8,
    pauses=2,
    over=0,
    abuses={"reset_flood": 2},
    handshakes=HandshakeReport(full=8, resumed=9),
    failed_handshakes={"version": 3},
    **PASSED,
)
CLASS: Final = ClassReport(
    name="gold",
    priority=1,
    concurrency=5,
    in_flight=2,
    limit="rate 5/s per source",
    why="below every limit",
    admitted=4,
    over=1,
    **PASSED,
)
SESSIONS: Final = SessionsReport(
    live=90,
    waiting=12,
    present=11,
    early=0,
    admitted=130,
    adopted=7,
    entered=30,
    advance_rate=0.25,
    measured_max=None,
    measured_why="start",
    queue=(PlaceReport(place=1, silent=2, present=True), PlaceReport(place=2, silent=31, present=False)),
    max=100,
    auto=False,
    places=500,
)
TREE: Final = TreeReport(
    state="running",
    started=1e9,
    reloads={"accepted": 2, "refused": 1},
    last_reload=ReloadReport(at=2e9, accepted=False, refused_at=2.1e9, problems="site.yaml:1:1: a mistake"),
    certificates=CertificatesReport(
        count=2,
        soonest=(
            CertificateReport(file="/tls/a.crt", not_before=1000, not_after=8_000_000_000),
            CertificateReport(file="/tls/b.crt", not_before=1000, not_after=9_000_000_000),
        ),
        renewals={"accepted": 4, "refused": 1},
        refused=(),
    ),
    maps=MapsReport(refused={}, renewals={"accepted": 3, "refused": 1}),
    workers=(0,),
    processes={"control": 2, "worker 0": 3},
    deaths={"worker 0": 4},
    bad_reports={"worker 0": 1},
    upgrades_failed=0,
    sandbox={"seccomp": True, "landlock": False},
)


def backend(*servers: ServerReport) -> BackendReport:
    """A backend with overload control."""
    concurrency = ConcurrencyReport(limit=12.5, why="latency", base=0.01, recent=0.02, in_flight=12)
    return BackendReport(
        name="app",
        balance="measured",
        servers=servers,
        retries={"connect": 2, "tls": 0, "stale": 3, "reset": 0, "status": 1},
        concurrency=concurrency,
        **PASSED,
    )


DNS: Final = DnsReport(
    udp=20,
    tcp=3,
    truncated=1,
    cookies=4,
    bad_cookies=5,
    subnets=6,
    edns=7,
    codes={"NOERROR": 21, "REFUSED": 2},
    dropped={"silent": 1, "rate": 0, "send": 0},
    tcp_connections=2,
    tcp_counts={"connections": 9, "refused": 8},
    processes=1,
    zones=1,
    names=(DnsNameReport(name="www.example.com", policy="load", shares={"mel": 0.25, "syd": 0.75}, open=False),),
    open_names=0,
    signatures=30,
    unsigned=2,
    places_failed=1,
)


ACME: Final = AcmeReport(
    certificates=(
        AcmeCertificateReport(
            name="www.example.com",
            state="valid",
            directory="https://acme.example/dir",
            not_after=1_800_000_000,
            failures=0,
            error="",
            next=1_795_000_000,
        ),
    ),
    orders={"filled": 1, "failed": 0},
    silent=(),
    refused={"it does not have the key of the cluster": 1},
)


def control(*servers: ServerReport, **changes: Any) -> GatewayReport:
    """The report of a gateway in which all is well, with these servers (SERVER) and other changes."""
    report = GatewayReport(
        program="1.2.3",
        node="gw1",
        cluster=False,
        tree=TREE,
        workers=(WorkerReport(number=0, silent=0.1),),
        version=3,
        frontends=(FRONTEND,),
        backends=(backend(*servers or (SERVER,)),),
        classes=(CLASS,),
        sessions=SESSIONS,
        overrides=OverridesReport(serial=0, node=None, of={}),
        lost_lines=12,
        sites={"mel": 0.5, "syd": None},
        refused={"load report": {"bad signature": 3}, "check hint": {}, "cluster news": {}},
        memory=MemoryReport(used=0.42, of="the machine", limit=0.95, short=False),
        site_states={
            "mel": SiteStateReport(
                up=True,
                draining=False,
                load=0.5,
                capacity=None,
                evacuated=False,
                trust=1.0,
                sessions_free=7,
                responses=12.5,
                backends={"app": 0.5},
            )
        },
        evacuation=None,
        dns=DNS,
        dns_updates=(
            DnsUpdateReport(zone="example.com", server="192.0.2.54:53", failing="", foreign=(), counts={"changed": 2}),
        ),
        acme=ACME,
        tracing=TracingReport(exported=7, waiting=1, lost={"worker": 2, "refused": 0}, failing=""),
        map_programs=(
            MapProgramReport(
                program="/bin/map x", found=5, none=2, failed={"ended": 1, "slow": 0}, starts=2, waiting=3, failing=""
            ),
        ),
        processes=(ProcessReport(name="worker 0", pid=3, cpu_seconds=1.25, resident_bytes=4096),),
    )
    return replace(report, **changes)


def heartbeat(**changes: Any) -> HeartbeatReport:
    """The report of the heartbeat process of an owner."""
    link = LinkReport(alive=True, loss=0.01, delay=0.0002)
    report = HeartbeatReport(
        node="gw1",
        admin_state="join",
        mode="witness",
        votes_needed=2,
        lease_enforced_by="kernel",
        doubts=(),
        nodes=(
            NodeReport(name="gw1", state="join", alive=True, own=True, links={}),
            NodeReport(name="gw2", state="join", alive=True, silent=0.1, same_settings=False, links={"udp": link}),
            NodeReport(name="witness", state="", alive=False, links={}),
        ),
        addresses=(
            AddressReport(
                address="192.0.2.10",
                state="owner",
                owner="gw1",
                reason="gw2 is dead",
                fitness=255,
                lease=0.4,
                leaving=False,
            ),
            AddressReport(
                address="192.0.2.11",
                state="backup",
                owner=None,
                reason="ready",
                fitness=255,
                lease=None,
                leaving=False,
            ),
        ),
        refused={"bad: signature": 5},
        takeovers={"192.0.2.10": 1},
        releases={},
        contests={"192.0.2.10": 2},
        failures={"fence": 1},
        health=FitnessReport(measured=255, believed=100, reason="serving", falls=2, hold=2.0),
        history=(),
    )
    return replace(report, **changes)
