"""Formats control's report on traffic and servers for a terminal. Pure."""

import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.config.certificate import Validity
from gateway.config.overrides import NODE, SITE
from gateway.config.units import clock_text, version_text
from gateway.control.evacuation import orderer
from gateway.reports import (
    AcmeReport,
    BackendReport,
    CertificatesReport,
    ClassReport,
    DnsReport,
    EvacuationReport,
    FrontendReport,
    GatewayReport,
    MapProgramReport,
    MapsReport,
    MemoryReport,
    OverrideReport,
    ServerReport,
    SessionsReport,
    SiteStateReport,
    TargetReport,
    TracingReport,
    TrafficReport,
)

WIDTH: Final = 80
"""Columns of a terminal."""
NAME: Final = -20
"""Columns of the name in a table."""
WHY: Final = {
    "start": "too few responses measured yet",
    "unused": "not reached, so it does not grow",
    "growing": "responses are as fast as without load: growing",
    "latency": "responses take longer than without load: reduced",
    "probe": "reduced for a moment, to measure responses without load",
    "fixed": "as configured",
}
MEASURED: Final = {
    "start": "nothing was measured yet",
    "growing": "it grows by a fifth and 40 a second, and the servers have room",
    "room": "the servers have room for so many",
    "full": "the servers have no room for more",
    "unknown": "no server with a limit is in service",
}
"""The reasons for the number of sessions with `max: auto` (qos/headroom.pyx)."""


def heading(about: dict[str, Any]) -> str:
    """Which gateway it is, and what became of the last reload.

    `about`: what the supervisor says of itself; one on another machine has no process.
    """
    last = about["last_reload"]
    named = version_text(about["version"], last.get("history"))  # which a gateway of before does not say
    process = f", process {about['pid']}" if "pid" in about else ""
    lines = [f"{about['node']}: gateway {about['program']}{process}, {about['state']}",
             f"{about['site']}, {named} since {clock_text(last['at'])}"]  # fmt: skip
    if not last["accepted"]:
        if last.get("last_good") is not None:  # a supervisor of another version may not say it
            when = clock_text(last["last_good"])
            lines.append(f"STARTED WITH THE LAST GOOD CONFIGURATION of {when}, because the site file is refused:")
        else:
            when = clock_text(last["refused_at"])
            lines.append(f"RELOAD REFUSED at {when}, so this is not what the file says now:")
        lines += [f"  {line}" for line in last["problems"].splitlines()]
        if last.get("changes"):
            lines += ["changed since (- in use, + in the file now):"]
            lines += [f"  {line}" for line in last["changes"].splitlines()]
    return "".join(f"{line}\n" for line in [*lines, ""])


def text(report: GatewayReport) -> str:
    """Tables for a terminal."""
    return "".join(f"{line}\n" for line in _lines(report))


def _row(*cells: tuple[object, int], rest: str = "") -> Iterator[str]:
    """A row of a table, in WIDTH columns: each cell with its width, negative if its text begins at the left.

    A text longer than its cell, and a `rest` for which there is no room, get a line of their own.
    """
    line, end = "", 0
    for value, width in cells:
        end += abs(width)
        line += f"{value!s:<{-width}}" if width < 0 else f"{value!s:>{width}}"
        if width < 0 and len(line.rstrip()) >= end:
            yield line
            line = " " * end
    if len(line) + 2 + len(rest) <= WIDTH:
        yield f"{line}  {rest}".rstrip()
        return
    yield line.rstrip()
    yield from _wrapped(rest, "    ")


def _lines(report: GatewayReport) -> Iterator[str]:
    titles = "connections", "refused", "requests", "4xx", "5xx", "unanswered"
    widths = 13, 8, 12, 8, 8, 11
    yield from _row(("frontend", NAME), *zip(titles, widths, strict=True))
    for frontend in report.frontends:
        answers, unanswered = frontend.answers, frontend.unanswered
        connections = f"{frontend.open}/{frontend.limit}"
        figures = connections, frontend.turned_away, sum(answers) + unanswered, answers[3], answers[4], unanswered
        yield from _row((frontend.name, NAME), *zip(figures, widths, strict=True))
    yield from _handshakes(report.frontends)
    yield from _outcomes(report.frontends)
    if report.lost_lines:
        yield from _wrapped(
            f"ACCESS LOG: {report.lost_lines} lines could not be written so far (the log says why: a full disk, a "
            "reader or receiver that is slow or gone)",
            "",
        )
    yield from _classes(report.classes)
    yield from _concurrency(report.backends)
    yield from _sessions(report.sessions)
    yield from _memory(report.memory)
    yield from _evacuation(report.evacuation)
    yield from _sites(report.site_states)
    yield from _dns(report.dns)
    for one in report.dns_updates:
        yield from _wrapped(
            f"{one.zone} at {one.server}: {f'NOT UPDATED: {one.failing}' if one.failing else 'current'}"
        )
    yield from _certificates(report.tree.certificates, time.time())
    yield from _acme(report.acme, time.time())
    yield from _tracing(report.tracing)
    yield from _map_programs(report.map_programs)
    yield from _maps(report.tree.maps)
    yield from _overrides(report.overrides.of)
    yield ""
    yield from _servers(report.backends)


def _handshakes(frontends: Sequence[FrontendReport]) -> Iterator[str]:
    for frontend in frontends:
        failed = {reason: count for reason, count in frontend.failed_handshakes.items() if count}
        if failed:
            said = ", ".join(f"{reason} {count}" for reason, count in failed.items())
            yield from _wrapped(f"{frontend.name}: failed TLS handshakes: {said}", "")


def _servers(backends: Sequence[BackendReport]) -> Iterator[str]:
    titles = "backend/server", "state", "weight", "load", "in flight", "sessions"
    widths = NAME, -17, 7, 6, 10, 9
    yield from _row(*zip(titles, widths, strict=True), rest="check")
    for backend in backends:
        for server in backend.servers:
            load = "" if server.load is None else f"{server.load:.0%}"
            limit = f"/{server.max_connections}" if server.max_connections else ""
            sessions = "" if server.sessions is None else f"{server.sessions}"
            left = " left" if server.sessions and server.admin == "drain" else ""
            cells = (
                *(f"{backend.name}/{server.name}", state(server), f"{server.effective_weight:.3g}", load),
                *(f"{server.in_flight}{limit}", sessions + left),
            )
            yield from _row(*zip(cells, widths, strict=True), rest=_check(server))


def _overrides(found: Mapping[str, TargetReport]) -> Iterator[str]:
    """What differs from the site file by commands, if anything does."""
    if not found:
        return
    yield ""
    yield "differs from the site file, by command (`gateway forget NAME` ends it):"
    for target, each in found.items():
        name = "this gateway (--node)" if target == NODE else target.replace(SITE, "site ")
        gone = "" if each.known else ", not in the site now"
        yield from _row(("", 2), (name, -28), rest=f"{setting(each)} since {clock_text(each.since)}{gone}")


def left(server: ServerReport) -> str:
    """What a server still has to do."""
    sessions = "" if server.sessions is None else f", {server.sessions} sessions"
    return f"{server.in_flight} requests in flight{sessions}"


def rest(servers: Sequence[ServerReport]) -> int:
    """How many requests and sessions servers have left; in maintenance, sessions have ended."""
    return sum(server.in_flight + (0 if server.admin == "maintenance" else server.sessions or 0) for server in servers)


def setting(override: OverrideReport) -> str:
    """What a command has set."""
    words = []
    if override.state is not None:
        words.append(override.state)
    if override.overrules is not None:
        words.append(f"in place of its agent's {override.overrules}")
    if override.weight is not None:
        words.append(f"weight {override.weight}")
    return ", ".join(words)


def _concurrency(backends: Sequence[BackendReport]) -> Iterator[str]:
    """A table of the concurrency limits of backends, if there are any."""
    limited = [(backend, backend.concurrency) for backend in backends if backend.concurrency]
    if not limited:
        return
    titles = "at servers", "limit", "answer ms", "unqueued ms", "shed", "waited", "queued"
    widths = 11, 7, 10, 12, 6, 7, 7
    yield ""
    yield from _row(("overload control", NAME), *zip(titles, widths, strict=True), rest="why")
    for backend, found in limited:
        times = [f"{seconds * 1000:.1f}" if seconds else "" for seconds in (found.recent, found.base)]
        limit = "" if found.limit is None else int(found.limit)
        figures = found.in_flight, limit, *times, backend.outcomes.get("shed", 0), backend.waited
        figures = *figures, backend.queued
        yield from _row((backend.name, NAME), *zip(figures, widths, strict=True), rest=WHY[found.why])


def _classes(classes: Sequence[ClassReport]) -> Iterator[str]:
    """A table, if there are classes."""
    if not classes:
        return
    titles = "priority", "in flight", "queued", "admitted", "waited", "mean ms", "dry run"
    widths = 9, 10, 7, 10, 8, 8, 8
    yield ""
    yield from _row(("class", NAME), *zip(titles, widths, strict=True), rest="why, limits")
    for one in classes:
        limit = f"/{one.concurrency}" if one.concurrency else ""
        requests = sum(one.outcomes.values())
        mean = f"{one.seconds / requests * 1000:.1f}" if requests else ""
        figures = one.priority, f"{one.in_flight}{limit}", one.queued, one.admitted, one.waited, mean, one.over
        yield from _row((one.name, NAME), *zip(figures, widths, strict=True), rest=f"{one.why}; {one.limit}")
    yield from _outcomes(classes)


def _sessions(found: SessionsReport | None) -> Iterator[str]:
    """A table, if there are sessions."""
    if found is None:
        return
    titles = "live", "waiting", "present", "early", "entered/min", "adopted"
    most = f"{found.live}/{found.max or '-'}{' auto' if found.auto else ''}"
    waiting = f"{found.waiting}/{found.places}"
    figures = most, waiting, found.present, found.early, f"{found.advance_rate * 60:.3g}", found.adopted
    widths = 17, 14, 8, 6, 12, 8
    yield ""
    yield from _row(("", -15), *zip(titles, widths, strict=True))
    yield from _row(("sessions", -15), *zip(figures, widths, strict=True))
    if found.auto:
        yield f"  the limit is that because {MEASURED[found.measured_why]}"
    if found.cluster is not None and found.cluster.share is not None:
        silent = ", ".join(found.cluster.silent) or "none"
        yield f"  this gateway's share of the cluster's: {found.cluster.share}; not heard: {silent}"
    for one in found.queue:
        came = "" if one.present else ", late"
        yield f"  place {one.place}: asked {one.silent} s ago{came}"
    if found.waiting > len(found.queue) > 0:
        yield f"  and {found.waiting - len(found.queue)} more"


def _memory(found: MemoryReport) -> Iterator[str]:
    """Memory in use, if there is a limit."""
    if found.limit is not None and found.used is not None:
        why = "new connections are closed at once" if found.short else "below the limit"
        yield ""
        limit = f"{found.limit * 100:.3g}%"
        yield f"memory of {found.of}: {found.used:.0%} in use, limit {limit}: {why}"


def _certificates(found: CertificatesReport, now: float) -> Iterator[str]:
    """Certificates that are not valid, or expire soon."""
    concerns = [(one.file, Validity(one.not_before, one.not_after).concern(now)) for one in found.soonest]
    rows = [(file, text) for file, text in concerns if text]
    if rows:
        yield ""
        yield f"certificates that need attention, of {found.count}:"
        for file, text in rows:
            yield from _wrapped(f"{file}: {text}")
    if found.refused:
        yield ""
        yield "certificates that were refused:"
        for one in found.refused:
            text = one.why if one.file in one.why else f"{one.file}: {one.why}"
            yield from _wrapped(f"{text} (since {clock_text(one.since)})")


def _acme(found: AcmeReport | None, now: float) -> Iterator[str]:
    """Certificates that come by ACME: until when each is valid, when it is ordered next, and what went wrong."""
    if found is None:
        return
    yield ""
    yield "certificates by ACME:"
    for one in found.certificates:
        until = f"valid until {_day(one.not_after)}" if one.not_after is not None else "none yet"
        order = "is being ordered" if one.state == "ordering" else f"next order {_moment(one.next, now)}"
        yield from _wrapped(f"{one.name}: {until}; {order}")
        if one.failures:
            times = "" if one.failures == 1 else f", {one.failures} times in a row"
            yield from _wrapped(f"the last order failed{times}: {one.error}", "    ")
    if found.silent:
        yield from _wrapped(f"not shared with {', '.join(found.silent)}: they do not answer")


def _tracing(found: TracingReport | None) -> Iterator[str]:
    """What became of traced requests."""
    if found is None:
        return
    lost = ", ".join(f"{count} {reason}" for reason, count in found.lost.items() if count)
    yield ""
    yield f"traces: {found.exported} exported, {found.waiting} waiting, lost: {lost or 'none'}"
    if found.failing:
        yield from _wrapped(f"the collector does not take spans: {found.failing}")


def _map_programs(found: Iterable[MapProgramReport]) -> Iterator[str]:
    """What programs say of the keys of maps."""
    for one in found:
        failed = ", ".join(f"{count} {reason}" for reason, count in one.failed.items() if count)
        yield ""
        yield f"map program {one.program}"
        yield f"    {one.found} keys found, {one.none} without a value, {one.waiting} wait"
        if failed:
            yield f"    not answered: {failed}"
        if one.failing:
            yield from _wrapped(f"it {one.failing}", "    ")


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def _moment(at: float, now: float) -> str:
    return "now" if at <= now else _day(at)


def _maps(found: MapsReport) -> Iterator[str]:
    """Maps whose files cannot be used."""
    if found.refused:
        yield ""
        yield "maps that keep their previous content:"
        for name, text in found.refused.items():
            yield from _wrapped(f"{name}: {text}")


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    """Lines of a text; names and paths stay whole, so that they can be copied."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def _evacuation(found: EvacuationReport | None) -> Iterator[str]:
    """How far the evacuation of this site is, if it is ordered."""
    if found is None:
        return
    until = "" if found.until is None else f" until {clock_text(found.until)}"
    waits = {
        "resolvers": f"waiting {found.resolvers:.0f} s for resolvers, {found.left} sessions and requests left",
        "sessions": f"waiting for {found.left} sessions and requests",
        "addresses": f"waiting for shared addresses to move: {', '.join(found.addresses) or 'heartbeat'}",
    }
    yield ""
    yield from _wrapped(f"site {found.site}: EVACUATED {orderer(found.by)}{until}: {waits.get(found.phase, 'done')}")


def _sites(found: Mapping[str, SiteStateReport]) -> Iterator[str]:
    """What is known of each site of the farm."""
    if not found:
        return
    titles, widths = ("state", "load", "full at/s", "sessions", "dns/s"), (12, 8, 12, 11, 11)
    yield ""
    yield from _row(("site", NAME), *zip(titles, widths, strict=True))
    for name, one in sorted(found.items()):
        state = "NOT HEARD" if not one.up else "evacuated" if one.evacuated else "draining" if one.draining else "up"
        figures = (
            state,
            "-" if one.load is None else f"{one.load:.0%}",
            "-" if one.capacity is None else f"{one.capacity:.0f}",
            "-" if one.sessions_free is None else f"{one.sessions_free} free",
            "-" if one.responses is None else f"{one.responses:.0f}",
        )
        poor = [f"{backend} {part:.0%} works" for backend, part in one.backends.items() if part < 1.0]
        poor += [f"{one.open_names} names of its name server have no site that works"] if one.open_names else []
        title = f"{name} (this one)" if one.own else name
        yield from _row((title, NAME), *zip(figures, widths, strict=True), rest=", ".join(poor))


def _dns(found: DnsReport | None) -> Iterator[str]:
    """The name server, if there is one: its queries, and the shares of sites."""
    if found is None:
        return
    titles = "udp", "tcp", "refused", "dropped", "truncated", "connections"
    widths = 10, 8, 9, 9, 11, 13
    refused, dropped = found.codes.get("REFUSED", 0), sum(found.dropped.values())
    figures = found.udp, found.tcp, refused, dropped, found.truncated, found.tcp_connections
    zones = f"{found.zones} zone{'' if found.zones == 1 else 's'}"
    if found.processes > 1:
        zones = f"{zones}, {found.processes} processes"
    yield ""
    yield from _row(("dns", NAME), *zip(titles, widths, strict=True))
    yield from _row((zones, NAME), *zip(figures, widths, strict=True))
    for one in found.names:
        shares = ", ".join(f"{site} {share:.0%}" for site, share in one.shares.items())
        why = "; NO SITE WORKS: all are answered" if one.open else ""
        yield from _wrapped(f"{one.name} ({one.policy}): {shares}{why}")


def _outcomes(reports: Sequence[TrafficReport]) -> Iterator[str]:
    """Outcomes of requests other than ok, the most frequent first."""
    for frontend in reports:
        found = sorted(frontend.outcomes.items(), key=lambda item: -item[1])
        ends = [f"{name} {count}" for name, count in found if name not in {"ok", "answered"}]
        if ends:
            yield from _wrapped(f"{frontend.name}: {', '.join(ends)}")


def state(server: ServerReport) -> str:
    """The state of a server in the terms of the site file."""
    words = [server.state]
    if server.admin != "ready":
        words.append(server.admin)
    if server.ejection != "in rotation":
        words.append(server.ejection)
    if server.slow_start < 1:
        words.append(f"slow start {server.slow_start:.0%}")
    if server.backup:
        words.append("backup")
    return ", ".join(words)


def _check(server: ServerReport) -> str:
    found = []
    for prefix, result in ("", server.check), ("agent ", server.agent):
        if result is not None:
            detail = f" ({result.detail})" if result.detail and result.result != "OK" else ""
            found.append(f"{prefix}{result.result} {result.seconds * 1000:.0f} ms{detail}")
    return "; ".join(found)
