"""The processes of the tree as a table: what each gets and does, and how it handles a reload or an upgrade.

To add a kind of process, add an entry here, a package with its `prepare`, and a row of its privileges in
gateway/hardening/roles.py.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gateway.board import WORKERS
from gateway.config import Loaded, Site, Snapshot
from gateway.config.dns import MAX_PROCESSES
from gateway.config.model import Listen
from gateway.hardening import roles as privileges
from gateway.process.child import ChildContext, Work
from gateway.proxy import worker  # before the fork: all workers share its memory

BACKLOG: Final = 4096
FEW: Final = 64
"""Clients that may wait where operators ask."""


@dataclass(frozen=True, slots=True)
class SocketPlan:
    """Where the sockets of one name listen.

    `spread`: each process of the role has its own on each address, and the kernel spreads clients over them (socket(7),
    SO_REUSEPORT); a Unix socket is one for all. Otherwise there is one on each address, which the role's first process
    has. `modes` are permissions of Unix sockets by path. `later`: IP addresses that this machine may get only later.
    """

    listens: tuple[Listen, ...]
    kind: socket.SocketKind = socket.SOCK_STREAM
    spread: bool = False
    backlog: int = FEW
    modes: Mapping[str, int] = field(default_factory=dict)
    later: frozenset[str] = frozenset()


Plans: TypeAlias = Mapping[str, SocketPlan]
"""The sockets of a role by name."""


def _no_sockets(_: Site) -> Plans:
    return {}


def _never(_: Snapshot, __: Snapshot) -> bool:
    return False


@dataclass(frozen=True, kw_only=True, eq=False)
class Role:
    """A kind of process of the tree."""

    name: str
    """In the log, in metrics and, shortened, in ps."""
    prepare: Callable[[ChildContext], Work]
    """Called in the new process while that may do what the supervisor may; what it returns is called once confined."""
    privileges: privileges.Role
    confines_itself: bool = False
    """`prepare` switches to the account and confines the process, when it has what it needs more rights for."""
    instances: Callable[[Loaded], int]
    """How many there are for a site file."""
    numbered: bool = False
    """There may be several: their names have numbers."""
    most: int = 1
    """Numbers that they can have; those that only finish keep theirs meanwhile."""
    sockets: Callable[[Site], Plans] = _no_sockets
    traffic: bool = False
    """Carries requests: it gets routes, vault, rates and access log, has a cell of the Board, and drains."""
    rates: int = 0
    """Bytes of a table of rates that its processes share; without one they get that of the workers."""
    shows: bool = False
    """Gets the certificates that it shows to servers when it checks them, and to operators, with their keys."""
    bulletin: bool = False
    """Each has a bulletin for the others to read."""
    locates: bool = False
    """Gets the MaxMind file, which says where clients are."""
    discovers: bool = False
    """May report answers of the name service."""
    exports: bool = False
    """Gets what workers record of sampled requests."""
    answers: bool = False
    """Answers what workers ask."""
    commands: bool = False
    """May pass on commands of operators (Command of gateway/process/channel.py)."""
    restarts: Callable[[Snapshot, Snapshot], bool] = _never
    """Whether a reload from one snapshot to another replaces it; otherwise it switches to the new one."""
    wave: int
    """Processes end in ascending order, those of a wave after the previous wave."""
    stands_by: bool = False
    """Is notified first when the gateway stops, so that new clients go to another gateway, and ends with its wave."""
    hands_over: bool = False
    """Hands what it holds to the same process of the next gateway at an upgrade; others end without."""

    @property
    def titles(self) -> tuple[str, ...]:
        """The names of all that there can be."""
        return tuple(self.title(number) for number in range(self.most))

    def title(self, number: int) -> str:
        """The name of one of them."""
        return f"{self.name} {number}" if self.numbered else self.name


def _later(site: Site) -> frozenset[str]:
    """Addresses that this machine may get later: those that it shares, and its own within the cluster."""
    if site.cluster is None:
        return frozenset()
    shared = (address.ip for address in site.cluster.addresses)
    return frozenset((site.cluster.nodes[site.node], *shared))


def _worker_sockets(site: Site) -> Plans:
    listens = tuple(listen for frontend in site.frontends for listen in frontend.listen)
    modes = {
        listen.path: frontend.socket_mode for frontend in site.frontends for listen in frontend.listen if listen.path
    }
    return {"http": SocketPlan(listens, spread=True, backlog=BACKLOG, modes=modes, later=_later(site))}


def _prepare_control(context: ChildContext) -> Work:
    # In the new process: neither the first request nor a worker's memory should wait for its libraries.
    from gateway.control import process  # noqa: PLC0415

    return process.prepare(context)


def _control_sockets(site: Site) -> Plans:
    cluster = site.cluster
    hints = Listen(cluster.nodes[site.node], cluster.listen) if cluster is not None and cluster.listen else None
    plans = {
        "reports": (site.load_reports.listen if site.load_reports is not None else None, socket.SOCK_DGRAM),
        "sites": (site.sites.listen if site.sites is not None else None, socket.SOCK_DGRAM),
        "site streams": (site.sites.listen if site.sites is not None else None, socket.SOCK_STREAM),
        "hints": (hints, socket.SOCK_DGRAM),
        "admin": (site.admin.listen, socket.SOCK_STREAM),
    }
    return {
        name: SocketPlan((listen,), kind, later=_later(site))
        for name, (listen, kind) in plans.items()
        if listen is not None
    }


def _prepare_dns(context: ChildContext) -> Work:
    from gateway.dns import process  # noqa: PLC0415 - where there are zones

    return process.prepare(context)


def _dns_sockets(site: Site) -> Plans:
    if site.dns is None:
        return {}
    return {
        "udp": SocketPlan(site.dns.listen, socket.SOCK_DGRAM, spread=True, later=_later(site)),
        "tcp": SocketPlan(site.dns.listen, spread=True, backlog=BACKLOG, later=_later(site)),
    }


def _prepare_acme(context: ChildContext) -> Work:
    from gateway.acme import process  # noqa: PLC0415 - where certificates come by ACME

    return process.prepare(context)


def _name_servers(loaded: Loaded) -> int:
    dns = loaded.site.dns
    return 0 if dns is None or not dns.listen else dns.processes


def _acme_sockets(site: Site) -> Plans:
    cluster = site.cluster
    if not site.gets_certificates or cluster is None or cluster.listen is None:
        return {}
    listen = Listen(cluster.nodes[site.node], cluster.listen)
    return {"gateways": SocketPlan((listen,), later=_later(site))}


def _other_state(before: Snapshot, now: Snapshot) -> bool:
    """Whether a reload moves the directory of certificates, or gives it to another account."""
    was, is_ = before.site, now.site
    return (was.state, was.user) != (is_.state, is_.user)


def _prepare_tracing(context: ChildContext) -> Work:
    from gateway.tracing import process  # noqa: PLC0415 - where there is tracing

    return process.prepare(context)


def _prepare_programs(context: ChildContext) -> Work:
    from gateway.programs import process  # noqa: PLC0415 - where maps have programs

    return process.prepare(context)


def _prepare_heartbeat(context: ChildContext) -> Work:
    from gateway.heartbeat import process  # noqa: PLC0415 - where there is a cluster

    return process.prepare(context)


def _other_cluster(before: Snapshot, now: Snapshot) -> bool:
    """Whether a reload changes nodes or addresses."""
    was, is_ = before.site, now.site
    key = was.cluster.key_file if was.cluster is not None else None
    return (was.node, was.cluster, was.user) != (is_.node, is_.cluster, is_.user) or (
        key is not None and before.files[key] != now.files.get(key)
    )


def _first_listener(before: Snapshot, now: Snapshot) -> bool:
    """Whether a reload adds the admin listener: what that needs is loaded only at the start of control."""
    return before.site.admin.listen is None and now.site.admin.listen is not None


CONTROL: Final = Role(
    name="control",
    prepare=_prepare_control,
    privileges=privileges.CONTROL,
    instances=lambda _: 1,
    sockets=_control_sockets,
    bulletin=True,
    discovers=True,
    commands=True,
    shows=True,
    restarts=_first_listener,
    wave=2,  # while requests run, servers are watched
)
WORKER: Final = Role(
    name="worker",
    prepare=worker.prepare,
    privileges=privileges.WORKER,
    instances=lambda loaded: loaded.site.workers,
    numbered=True,
    most=WORKERS,
    sockets=_worker_sockets,
    traffic=True,
    wave=1,
)
HEARTBEAT: Final = Role(
    name="heartbeat",
    prepare=_prepare_heartbeat,
    privileges=privileges.HEARTBEAT,
    confines_itself=True,  # opens raw sockets, attaches to interfaces, and starts the guardian
    instances=lambda loaded: 0 if loaded.site.cluster is None else 1,
    bulletin=True,
    restarts=_other_cluster,
    wave=2,
    stands_by=True,
    hands_over=True,
)

DNS: Final = Role(
    name="dns",
    prepare=_prepare_dns,
    privileges=privileges.DNS,
    instances=_name_servers,
    numbered=True,
    most=2 * MAX_PROCESSES,  # as many again may end still
    sockets=_dns_sockets,
    rates=1 << 20,
    locates=True,
    bulletin=True,
    wave=2,  # while requests run, clients may look for other names
)

ACME: Final = Role(
    name="acme",
    prepare=_prepare_acme,
    privileges=privileges.ACME,
    confines_itself=True,  # opens the directory that it keeps certificates in
    instances=lambda loaded: 1 if loaded.site.gets_certificates else 0,
    sockets=_acme_sockets,
    bulletin=True,
    restarts=_other_state,
    wave=2,
)

TRACING: Final = Role(
    name="tracing",
    prepare=_prepare_tracing,
    privileges=privileges.TRACING,
    instances=lambda loaded: 0 if loaded.site.tracing is None else 1,
    bulletin=True,
    exports=True,
    wave=2,  # after the workers, whose last requests it tells of
)

PROGRAMS: Final = Role(
    name="programs",
    prepare=_prepare_programs,
    privileges=privileges.MAP_PROGRAMS,
    instances=lambda loaded: 1 if loaded.programs else 0,
    bulletin=True,
    answers=True,
    wave=2,  # after the workers, which may ask to the end
)

ROLES: Final[tuple[Role, ...]] = (CONTROL, WORKER, HEARTBEAT, DNS, ACME, TRACING, PROGRAMS)
"""In the order in which they start."""
