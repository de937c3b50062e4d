"""The data of `gateway status` on traffic and servers: from the board, and results of checks and agents. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.board import DOWN, DRAIN, IN_ROTATION, MAINTENANCE, OUT, PROBED, READY, UNKNOWN, UP, Board
from gateway.config.overrides import NODE, Override
from gateway.config.qos import QosClass
from gateway.config.rate_limit import rate_text
from gateway.config.snapshot import ServerKey, Snapshot
from gateway.config.units import size_text
from gateway.health.result import Result
from gateway.outcome import ABUSES, OUTCOMES

_STATES: Final = {UNKNOWN: "unknown", UP: "up", DOWN: "down"}
_ADMINS: Final = {READY: "ready", DRAIN: "drain", MAINTENANCE: "maintenance"}
_OF_BACKENDS: Final = (
    "answers",
    "unanswered",
    "durations",
    "seconds",
    "bytes_in",
    "bytes_out",
    "retried",
    "waited",
    "waited_seconds",
    "queued",
)
_NOT_ADMITTED: Final = (
    *("not_admitted", "rate_limited", "class_full", "waiting", "sessions_full"),
    *("queue_full", "queue_timeout", "shed"),
)
"""Outcomes of requests that reached no server by the gateway's own decision."""
_EJECTIONS: Final = {IN_ROTATION: "in rotation", OUT: "ejected", PROBED: "probed"}


def report(
    snapshot: Snapshot, board: Board, checks: Mapping[ServerKey, Result], agents: Mapping[ServerKey, Result], now: float
) -> dict[str, Any]:
    """Everything about every frontend, backend, server and class, as JSON. Durations in seconds; `now`: monotonic."""
    backends = []
    for backend in snapshot.site.backends.values():
        servers = []
        for server in backend.servers:
            key = backend.name, server.name
            slot = snapshot.slots[key]
            servers.append(
                {
                    "name": server.name,
                    "address": str(server.address),
                    "state": _STATES[board.state(slot)],
                    "admin": _ADMINS[board.admin(slot)],
                    "ejection": _EJECTIONS[board.ejected(slot)],
                    "backup": server.backup,
                    "weight": snapshot.weight(backend.name, server),
                    "override": _override(snapshot.overrides.server(*key)),
                    "effective_weight": round(board.weight(slot), 4) or float(snapshot.weight(backend.name, server)),
                    "slow_start": round(board.ramp(slot), 4),
                    "load": board.load(slot),
                    "in_flight": board.in_flight(slot),
                    "max_connections": board.limit(slot) or server.max_connections,
                    "requests": board.requests(slot),
                    "handshakes": dict(zip(("full", "resumed"), board.handshakes(slot), strict=True))
                    if backend.tls_to(server) is not None
                    else None,
                    "failures": board.failures(slot),
                    "busy_seconds": board.busy_seconds(slot),
                    "bytes_in": board.bytes_in(slot),
                    "bytes_out": board.bytes_out(slot),
                    "sessions": board.sessions(slot, round(now * 1e9)) if backend.affinity else None,
                    "check": _result(checks.get(key)),
                    "agent": _result(agents.get(key)),
                }
            )
        passed = board.passed_through(snapshot.traffic["backend", backend.name])
        backends.append(
            {"name": backend.name, "balance": backend.balance, "servers": servers}
            | {key: passed[key] for key in _OF_BACKENDS}
            | {"outcomes": _by_name(passed["outcomes"])}
            | {"concurrency": _concurrency(snapshot, board, backend.name, passed["open"])}
        )
    frontends = []
    for frontend in snapshot.site.frontends:
        passed = board.passed_through(snapshot.traffic["frontend", frontend.name])
        listen = [str(listen) for listen in frontend.listen]
        frontends.append(
            {"name": frontend.name, "listen": listen, "limit": frontend.limits.connections}
            | passed
            | {"outcomes": _by_name(passed["outcomes"])}
            | {"abuses": {name: count for (name, _), count in zip(ABUSES, passed["abuses"], strict=True)}}
        )
    classes = []
    for item in snapshot.site.qos.classes:
        passed = board.passed_through(snapshot.traffic["class", item.name])
        outcomes = _by_name(passed["outcomes"])
        refused = sum(outcomes.get(name, 0) for name in _NOT_ADMITTED)
        classes.append(
            {"name": item.name, "priority": item.priority, "concurrency": item.concurrency, "in_flight": passed["open"]}
            | {"limit": _limit(item), "why": _why(item, passed["open"], passed["queued"])}
            | {"admitted": sum(outcomes.values()) - refused, "over": passed["over"]}
            | {key: passed[key] for key in _OF_BACKENDS}
            | {"outcomes": outcomes}
        )
    return {
        "version": snapshot.version,
        "frontends": frontends,
        "backends": backends,
        "classes": classes,
        "overrides": _overrides(snapshot),
    }


def _overrides(snapshot: Snapshot) -> dict[str, Any]:
    """What commands have set over the site file, by target."""
    known = {NODE, *snapshot.site.backends, *("/".join(key) for key in snapshot.slots)}
    found = sorted(snapshot.overrides.of.items())
    of = {target: {**(_override(each) or {}), "since": each.since, "known": target in known} for target, each in found}
    return {"serial": snapshot.overrides.serial, "node": snapshot.overrides.node, "of": of}


def _override(found: Override) -> dict[str, Any] | None:
    """What a command has set for a server; None: nothing."""
    return {"state": found.state, "weight": found.weight, "overrules": found.overrules} if found else None


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


def _concurrency(snapshot: Snapshot, board: Board, backend: str, in_flight: int) -> dict[str, Any] | None:
    """A backend's concurrency limit, and its reason; None: no overload control."""
    overload = snapshot.site.qos.overload
    if overload is None or overload.concurrency == 0:
        return None
    if overload.concurrency is not None:
        return {"limit": overload.concurrency, "why": "fixed", "base": None, "recent": None, "in_flight": in_flight}
    found = board.concurrency(snapshot.traffic["backend", backend])
    return {**(found or {"limit": None, "why": "start", "base": None, "recent": None}), "in_flight": in_flight}


def _by_name(outcomes: list[int]) -> dict[str, int]:
    """Counts by the name of each outcome that has occurred."""
    return {OUTCOMES[number][0]: count for number, count in enumerate(outcomes) if count}


def _result(result: Result | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "result": result.outcome.name,
        "good": result.good,
        "seconds": round(result.seconds, 6),
        "detail": result.detail,
    }
