"""What is wrong with a running gateway now, and why: the first lines of the page. Pure."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.admin import probes
from gateway.config.certificate import Validity
from gateway.config.units import clock_text
from gateway.outcome import OUTCOMES
from gateway.reports import (
    AcmeReport,
    BackendReport,
    GatewayReport,
    HeartbeatReport,
    MapProgramReport,
    ServerReport,
    TracingReport,
    TreeReport,
)

RECENT: Final = 600.0
"""Seconds for which a counter that has grown is shown."""
MOST: Final = 20
"""Counters that are shown."""

_MEANINGS: Final = {
    name: f"{meaning.rstrip('.')} ({name})" for name, side, meaning in OUTCOMES if side in {"gateway", "server"}
}
"""Of the outcomes that are no fault of a client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """`what` is wrong, as it is called in the site file, and `why`."""

    what: str
    why: str


def found(report: GatewayReport, heartbeat: HeartbeatReport | None, now: float) -> tuple[Problem, ...]:
    """Every problem, the worst ones first. `now` is in seconds since 1970."""
    return tuple(
        Problem(what=what, why=why)
        for what, why in (
            *_processes(report, heartbeat),
            *_reload(report.tree),
            *(line for backend in report.backends for line in _backend(backend)),
            *_cluster(heartbeat),
            *_sites(report),
            *_certificates(report.tree, now),
            *_maps(report.tree),
            *_acme(report.acme),
            *_tracing(report.tracing),
            *_map_programs(report.map_programs),
            *_rest(report),
        )
    )


def _processes(report: GatewayReport, heartbeat: HeartbeatReport | None) -> Iterator[tuple[str, str]]:
    if why := probes.healthy(report, heartbeat):
        yield "processes", why


def _reload(tree: TreeReport) -> Iterator[tuple[str, str]]:
    last = tree.last_reload
    if last.last_good is not None:
        yield "site file", f"refused at the start; the last good configuration is in use: {last.problems}"
    elif not last.accepted:
        yield "site file", f"the last reload was refused: {last.problems}"


def _backend(backend: BackendReport) -> Iterator[tuple[str, str]]:
    if backend.servers and not any(server.available for server in backend.servers):
        yield backend.name, "no server is available: clients get 503"
    for server in backend.servers:
        if why := _server(server):
            yield f"{backend.name}/{server.name}", why


def _server(server: ServerReport) -> str:
    if server.state == "down":
        failed = [f"{one.result} {one.detail}".strip() for one in (server.check, server.agent) if one and not one.good]
        return f"down: {', '.join(failed) or 'by its agent'}"
    if server.ejection != "in rotation":
        return "ejected because of its responses (outlier)"
    return f"last check: {server.check.result} {server.check.detail}" if server.check and not server.check.good else ""


def _cluster(heartbeat: HeartbeatReport | None) -> Iterator[tuple[str, str]]:
    if heartbeat is None:
        return
    for node in heartbeat.nodes:
        if not node.alive:
            yield node.name, "this node of the cluster is not heard"
        elif not node.same_settings:
            yield node.name, "the cluster section of this node differs"
    for address in heartbeat.addresses:
        if address.owner is None:
            yield address.address, f"no node owns this address: {address.reason}"
    for doubt in heartbeat.doubts:
        yield "kernel", doubt


def _sites(report: GatewayReport) -> Iterator[tuple[str, str]]:
    for name, state in report.site_states.items():
        if not state.up:
            yield f"site {name}", "none of its gateways is heard"
    for one in report.dns.names if report.dns is not None else ():
        if one.open:
            yield one.name, "none of its sites works; all are answered"
    for update in report.dns_updates:
        if update.failing:
            yield f"{update.zone} at {update.server}", f"is not updated: {update.failing}"


def _certificates(tree: TreeReport, now: float) -> Iterator[tuple[str, str]]:
    for one in tree.certificates.soonest:
        if why := Validity(one.not_before, one.not_after).concern(now):
            yield one.file, why
    for refused in tree.certificates.refused:
        yield refused.file, f"refused since {clock_text(refused.since)}: {refused.why}"


def _maps(tree: TreeReport) -> Iterator[tuple[str, str]]:
    for name, why in tree.maps.refused.items():
        yield f"map {name}", f"keeps its previous content: {why}"


def _acme(found: AcmeReport | None) -> Iterator[tuple[str, str]]:
    for one in found.certificates if found is not None else ():
        if one.failures:
            yield f"certificate of {one.name}", f"the last order failed: {one.error}"
        elif one.not_after is None:
            yield f"certificate of {one.name}", "there is none yet"


def _tracing(found: TracingReport | None) -> Iterator[tuple[str, str]]:
    if found is not None and found.failing:
        yield "tracing", f"the collector does not take spans: {found.failing}"


def _map_programs(found: Iterable[MapProgramReport]) -> Iterator[tuple[str, str]]:
    for one in found:
        if one.failing:
            yield f"map program {one.program}", one.failing


def _rest(report: GatewayReport) -> Iterator[tuple[str, str]]:
    if report.memory.short:
        yield "memory", "short: new sessions are refused"


def counts(report: GatewayReport, heartbeat: HeartbeatReport | None) -> dict[tuple[str, str], int]:
    """Counters of what should not happen: what it concerns, and what happened."""
    tree = report.tree
    found = {(name, "ended unexpectedly"): count for name, count in tree.deaths.items()}
    found |= {(name, "killed for an invalid message"): count for name, count in tree.bad_reports.items()}
    found["upgrade", "failed"] = tree.upgrades_failed
    found["access log", "lines that could not be written (the log says why)"] = report.lost_lines
    found |= {
        (kind, f"refused: {reason}"): count
        for kind, reasons in report.refused.items()
        for reason, count in reasons.items()
    }
    for frontend in report.frontends:
        found |= {
            (frontend.name, _MEANINGS[name]): count for name, count in frontend.outcomes.items() if name in _MEANINGS
        }
    for backend in report.backends:
        found |= {
            (f"{backend.name}/{server.name}", "failed requests (no response, a broken one, or 5xx)"): server.failures
            for server in backend.servers
        }
    if report.tracing is not None:
        found |= {("tracing", f"lost traces: {reason}"): count for reason, count in report.tracing.lost.items()}
    for one in report.map_programs:
        found |= {
            (f"map program {one.program}", f"keys without an answer: {reason}"): n for reason, n in one.failed.items()
        }
    if heartbeat is not None:
        found |= {("cluster", f"beats refused: {reason}"): count for reason, count in heartbeat.refused.items()}
    return found


class Recent:
    """Counters that have grown lately, by the reports that it was shown."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._grown: dict[tuple[str, str], tuple[float, int]] = {}
        """When a counter grew last, and by how much since it was quiet."""

    def see(self, now: float, counted: Mapping[tuple[str, str], int]) -> tuple[Problem, ...]:
        """Take the counters as they are; return those that have grown within RECENT, the latest first."""
        for key, count in counted.items():
            before = self._counts.get(key, 0 if self._counts else count)
            if count > before:
                self._grown[key] = (now, count - before + self._grown.get(key, (now, 0))[1])
        self._counts = dict(counted)
        self._grown = {key: grown for key, grown in self._grown.items() if now - grown[0] < RECENT and key in counted}
        latest = sorted(self._grown.items(), key=lambda item: -item[1][0])[:MOST]
        return tuple(
            Problem(what=what, why=f"{what_happened}: {count} times, last at {_clock(at)}")
            for (what, what_happened), (at, count) in latest
        )


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
