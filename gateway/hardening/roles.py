"""What each process of the gateway may do once it has started: a table, from which everything else follows.

A new process is a row here, an entry where it starts (`confine` in gateway/hardening/confinement.py), and a line in
docs/operations.md, which the tests compare.
"""

import socket
from dataclasses import dataclass
from typing import Final, Literal

from gateway.hardening.seccomp import Filter

NET_ADMIN: Final = 12
NET_RAW: Final = 13
CAPABILITIES: Final = {NET_ADMIN: "CAP_NET_ADMIN", NET_RAW: "CAP_NET_RAW"}

_FAMILIES: Final = {
    socket.AF_INET: "IPv4",
    socket.AF_INET6: "IPv6",
    socket.AF_UNIX: "Unix",
    socket.AF_NETLINK: "netlink",
}
_TYPES: Final = {socket.SOCK_STREAM: "stream", socket.SOCK_DGRAM: "datagram", socket.SOCK_RAW: "raw"}

_STREAMS: Final = frozenset(
    (family, socket.SOCK_STREAM) for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
)
_DATAGRAMS: Final = frozenset((family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6))
_NETLINK: Final = frozenset((socket.AF_NETLINK, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW))

_INTERFACES: Final = (0x8913, 0x8933)
"""SIOCGIFFLAGS: whether there is a carrier. SIOCGIFINDEX: Python asks for an interface by name with each frame."""

Reads = Literal["python", "names", "anything"]
"""Sets of paths that confinement.py resolves: Python with its libraries; also the configuration of names and of TLS."""


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of process. Every one has no_new_privs, and its memory is hidden unless the site says `core_dumps`."""

    name: str
    runs_as: Literal["starter", "user"]
    """The account that started the gateway, or that of the site's `user:`."""
    capabilities: frozenset[int] | None
    """All that it keeps; None: what it was started with."""
    filter: Filter | None
    """System calls; None: all."""
    reads: Reads
    """Files that it may open, for reading; "anything": all that its account may open, also for writing."""

    @property
    def row(self) -> tuple[str, ...]:
        """As a line of the table in docs/operations.md."""
        kept = self.capabilities
        rights = "as started" if kept is None else ", ".join(CAPABILITIES[n] for n in sorted(kept)) or "none"
        files = {"python": "reads Python", "names": "reads Python, names, CAs", "anything": "as its account"}[
            self.reads
        ]
        if self.filter is not None and self.filter.writes:
            files += "; writes `state`/acme"
        sockets = "any" if self.filter is None else _named(self.filter.sockets)
        return (
            self.name,
            {"starter": "who started it", "user": "`user`"}[self.runs_as],
            rights,
            files,
            sockets,
            "yes" if self.filter is None else "no",
        )


def _named(pairs: frozenset[tuple[int, int]]) -> str:
    kinds = sorted({kind for _, kind in pairs})
    return (
        "; ".join(
            f"{', '.join(name for family, name in _FAMILIES.items() if (family, kind) in pairs)} {_TYPES[kind]}"  # type: ignore[index]
            for kind in kinds
        )
        or "none"
    )


SUPERVISOR: Final = Role("supervisor", "starter", None, None, "anything")
"""Starts the others, so it needs what they need; reads nothing from the network."""
WORKER: Final = Role("worker", "user", frozenset(), Filter(_STREAMS | _DATAGRAMS), "python")
"""Datagrams are lines of the access log to a syslog receiver."""
CONTROL: Final = Role("control", "user", frozenset(), Filter(_STREAMS | _DATAGRAMS, binds=True, memory=True), "names")
"""Python's ssl takes certificates from files only, and these are in memory."""
HEARTBEAT: Final = Role(
    "heartbeat",
    "user",
    frozenset({NET_ADMIN, NET_RAW}),
    Filter(_DATAGRAMS | _NETLINK, binds=True, ioctls=_INTERFACES),
    "names",
)
DNS: Final = Role("dns", "user", frozenset(), Filter(frozenset()), "python")
"""It accepts and answers at the sockets that it is given, and makes none."""
ACME: Final = Role("acme", "user", frozenset(), Filter(_STREAMS | _DATAGRAMS, binds=True, writes=True), "names")
"""It keeps accounts and certificates, with their keys, in a directory of its own."""
TRACING: Final = Role("tracing", "user", frozenset(), Filter(_STREAMS | _DATAGRAMS), "names")
"""It connects to the collector, whose name it looks up."""
MAP_PROGRAMS: Final = Role("programs of maps", "user", frozenset(), None, "anything")
"""What its programs need, only who wrote them knows."""
GUARDIAN: Final = Role("guardian", "user", frozenset({NET_ADMIN}), Filter(_NETLINK, binds=True), "python")
PROGRAMS: Final = Role("guardian with programs", "starter", None, None, "anything")
"""The programs of the site file may need every right."""
LOOKUP: Final = Role("name lookup", "user", frozenset(), Filter(_DATAGRAMS | _STREAMS, binds=True), "names")
RULES: Final = Role("trial of rules", "user", frozenset(), Filter(_STREAMS, memory=True), "python")
"""As a worker, so that a rule which cannot work there is refused when the site file is loaded; its board is its own."""
WITNESS: Final = Role("witness", "user", frozenset(), Filter(frozenset()), "python")

ROLES: Final = (
    *(SUPERVISOR, WORKER, CONTROL, HEARTBEAT, DNS, ACME, TRACING, MAP_PROGRAMS),
    *(GUARDIAN, PROGRAMS, LOOKUP, RULES, WITNESS),
)
HEADINGS: Final = ("process", "account", "capabilities", "files", "new sockets", "runs programs")


def table() -> str:
    """Return the table for docs/operations.md."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(role.row for role in ROLES)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
