"""The data of `gateway status` on traffic and servers: from the board, and results of checks and agents. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from gateway.board import DOWN, DRAIN, IN_ROTATION, MAINTENANCE, OUT, PROBED, READY, UNKNOWN, UP, Board
from gateway.config.model import Backend, Frontend, Server
from gateway.config.overrides import NODE, SITE
from gateway.config.qos import QosClass
from gateway.config.rate_limit import rate_text
from gateway.config.snapshot import ServerKey, Snapshot, TrafficKey
from gateway.config.units import size_text
from gateway.health.result import Result
from gateway.outcome import ABUSES, HANDSHAKES, OUTCOMES, RETRY_CAUSES
from gateway.reports import (
    BackendReport,
    CheckReport,
    ClassReport,
    Concurrency,
    ConcurrencyReport,
    FrontendReport,
    HandshakeReport,
    OverrideReport,
    OverridesReport,
    ServerReport,
    SiteReport,
    TargetReport,
    Traffic,
    TrafficReport,
)

_STATES: Final = {UNKNOWN: "unknown", UP: "up", DOWN: "down"}
_ADMINS: Final = {READY: "ready", DRAIN: "drain", MAINTENANCE: "maintenance"}
_EJECTIONS: Final = {IN_ROTATION: "in rotation", OUT: "ejected", PROBED: "probed"}
_NOT_ADMITTED: Final = (
    *("not_admitted", "rate_limited", "class_full", "waiting", "sessions_full"),
    *("queue_full", "queue_timeout", "shed"),
)
"""Outcomes of requests that reached no server by the gateway's own decision."""
_COPIED: Final = [field.name for field in fields(TrafficReport) if field.name not in ("name", "outcomes")]
"""Counters that a report has as the board has them."""


def report(
    snapshot: Snapshot, board: Board, checks: Mapping[ServerKey, Result], agents: Mapping[ServerKey, Result], now: float
) -> SiteReport:
    """Everything about every frontend, backend, server and class. `now`: monotonic seconds."""
    return _Reporter(snapshot, board, checks, agents, now).site()


@dataclass(frozen=True, slots=True)
class _Reporter:
    snapshot: Snapshot
    board: Board
    checks: Mapping[ServerKey, Result]
    agents: Mapping[ServerKey, Result]
    now: float

    def site(self) -> SiteReport:
        site = self.snapshot.site
        keeping = site.keeping
        return SiteReport(
            version=self.snapshot.version,
            frontends=tuple(map(self.frontend, site.frontends)),
            backends=tuple(self.backend(backend, keeping) for backend in site.backends.values()),
            classes=tuple(map(self.qos_class, site.qos.classes)),
            overrides=self.overrides(),
            lost_lines=self.board.lines_lost(),
        )

    def passed(self, key: TrafficKey) -> Traffic:
        return self.board.passed_through(self.snapshot.traffic[key])

    def frontend(self, frontend: Frontend) -> FrontendReport:
        traffic = self.passed(("frontend", frontend.name))
        return FrontendReport(
            **_common(frontend.name, traffic),
            listen=tuple(str(listen) for listen in frontend.listen),
            limit=frontend.limits.connections,
            open=traffic.open,
            connections=traffic.connections,
            turned_away=traffic.turned_away,
            pauses=traffic.pauses,
            over=traffic.over,
            abuses={name: count for (name, _), count in zip(ABUSES, traffic.abuses, strict=True)},
            handshakes=_handshakes(traffic.handshakes) if frontend.tls is not None else None,
            failed_handshakes=_failed(traffic.failed_handshakes) if frontend.tls is not None else {},
        )

    def backend(self, backend: Backend, keeping: Collection[str]) -> BackendReport:
        traffic = self.passed(("backend", backend.name))
        return BackendReport(
            **_common(backend.name, traffic),
            balance=backend.balance,
            servers=tuple(self.server(backend, server, backend.name in keeping) for server in backend.servers),
            retries=dict(zip(RETRY_CAUSES, traffic.causes, strict=True)),
            concurrency=self.concurrency(backend.name, traffic.open),
        )

    def server(self, backend: Backend, server: Server, keeps: bool) -> ServerReport:  # noqa: FBT001 - one of three facts
        board, key = self.board, (backend.name, server.name)
        slot = self.snapshot.slots[key]
        return ServerReport(
            name=server.name,
            address=str(server.address),
            state=_STATES[board.state(slot)],
            admin=_ADMINS[board.admin(slot)],
            ejection=_EJECTIONS[board.ejected(slot)],
            backup=server.backup,
            weight=self.snapshot.weight(backend.name, server),
            override=self.override(backend.name, server.name),
            effective_weight=round(board.weight(slot), 4) or float(self.snapshot.weight(backend.name, server)),
            slow_start=round(board.ramp(slot), 4),
            load=board.load(slot),
            in_flight=board.in_flight(slot),
            max_connections=board.limit(slot) or server.max_connections,
            requests=board.requests(slot),
            handshakes=_handshakes(board.handshakes(slot)) if backend.tls_to(server) is not None else None,
            pool=board.pool(slot),
            failures=board.failures(slot),
            busy_seconds=board.busy_seconds(slot),
            bytes_in=board.bytes_in(slot),
            bytes_out=board.bytes_out(slot),
            sessions=board.sessions(slot, round(self.now * 1e9)) if keeps else None,
            check=_check(self.checks.get(key)),
            agent=_check(self.agents.get(key)),
        )

    def override(self, backend: str, server: str) -> OverrideReport | None:
        """What a command has set for a server; None: nothing."""
        found = self.snapshot.overrides.server(backend, server)
        return OverrideReport(state=found.state, weight=found.weight, overrules=found.overrules) if found else None

    def overrides(self) -> OverridesReport:
        """What commands have set over the site file."""
        snapshot = self.snapshot
        sites = snapshot.site.sites
        known = {
            NODE,
            *([SITE + sites.self_] if sites is not None else []),
            *snapshot.site.backends,
            *("/".join(key) for key in snapshot.slots),
        }
        return OverridesReport(
            serial=snapshot.overrides.serial,
            node=snapshot.overrides.node,
            of={
                target: TargetReport(
                    state=found.state,
                    weight=found.weight,
                    overrules=found.overrules,
                    since=found.since,
                    known=target in known,
                )
                for target, found in sorted(snapshot.overrides.of.items())
            },
        )

    def concurrency(self, backend: str, in_flight: int) -> ConcurrencyReport | None:
        """A backend's concurrency limit, and its reason; None: no overload control."""
        overload = self.snapshot.site.qos.overload
        if overload is None or overload.concurrency == 0:
            return None
        if overload.concurrency is not None:
            found = Concurrency(limit=overload.concurrency, why="fixed")
        else:
            found = self.board.concurrency(self.snapshot.traffic["backend", backend]) or Concurrency()
        return ConcurrencyReport(
            limit=found.limit, why=found.why, base=found.base, recent=found.recent, in_flight=in_flight
        )

    def qos_class(self, item: QosClass) -> ClassReport:
        traffic = self.passed(("class", item.name))
        outcomes = _by_name(traffic.outcomes)
        return ClassReport(
            **_common(item.name, traffic),
            priority=item.priority,
            concurrency=item.concurrency,
            in_flight=traffic.open,
            limit=_limit(item),
            why=_why(item, traffic.open, traffic.queued),
            admitted=sum(outcomes.values()) - sum(outcomes.get(name, 0) for name in _NOT_ADMITTED),
            over=traffic.over,
        )


def _common(name: str, traffic: Traffic) -> dict[str, Any]:
    """The fields of a TrafficReport."""
    copied = {counter: getattr(traffic, counter) for counter in _COPIED}
    return {"name": name, **copied, "outcomes": _by_name(traffic.outcomes)}


def _handshakes(counted: tuple[int, int]) -> HandshakeReport:
    full, resumed = counted
    return HandshakeReport(full=full, resumed=resumed)


def _failed(counted: tuple[int, ...]) -> dict[str, int]:
    return {name: count for (name, _), count in zip(HANDSHAKES, counted, strict=True)}


def _limit(item: QosClass) -> str:
    """The limits of a class, in the notation of the site file."""
    if item.admit is not None:
        return f"admit: {item.admit}"
    said = [f"rate {rate_text(item.rate)}" + (f" per {item.per}" if item.per is not None else "")] if item.rate else []
    said += [f"share {item.share:.0%}"] if item.share else []
    said += [f"{size_text(item.bandwidth)}/s an answer"] if item.bandwidth else []
    said += [f"{size_text(item.total_bandwidth)}/s in all"] if item.total_bandwidth else []
    return ", ".join(said) or "none"


def _why(item: QosClass, in_flight: int, queued: int) -> str:
    """The reason for a class's current concurrency limit."""
    if item.admit == "never":
        return "never admitted"
    if item.concurrency is not None and in_flight >= item.concurrency and not item.dry_run:
        return "at its concurrency"
    return "waits for servers" if queued else "below every limit"


def _by_name(outcomes: Sequence[int]) -> dict[str, int]:
    """Counts by the name of each outcome that has occurred."""
    return {OUTCOMES[number][0]: count for number, count in enumerate(outcomes) if count}


def _check(result: Result | None) -> CheckReport | None:
    if result is None:
        return None
    seconds = round(result.seconds, 6)
    return CheckReport(result=result.outcome.name, good=result.good, seconds=seconds, detail=result.detail)
