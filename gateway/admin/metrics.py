"""The metrics of a gateway, made from the reports of control and heartbeat to `gateway status`. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from gateway.admin import probes
from gateway.admin.exposition import Family, Kind, Sample, histogram, labels
from gateway.admin.exposition import text as exposition
from gateway.board import BOUNDS
from gateway.outcome import OUTCOMES
from gateway.reports import (
    AcmeReport,
    CertificatesReport,
    DnsReport,
    DnsUpdateReport,
    FrontendReport,
    GatewayReport,
    HeartbeatReport,
    MapProgramReport,
    ServerReport,
    TracingReport,
    TrafficReport,
)

Figure = Callable[[ServerReport], float | None]


def text(control: GatewayReport | None, heartbeat: HeartbeatReport | None) -> str:
    """All metrics in the text format of Prometheus; None: that process does not respond, or does not exist."""
    return exposition(families(control, heartbeat))


def families(control: GatewayReport | None, heartbeat: HeartbeatReport | None) -> Iterator[Family]:
    """Every metric that the two reports have values for."""
    if control is not None:
        yield from _of_tree(control, heartbeat)
        yield from _of_frontends(control)
        yield from _of_backends(control)
        yield from _of_servers(control)
        yield from _of_classes(control)
        yield from _of_sessions(control)
        yield from _of_memory(control)
        yield from _of_others(control)
        yield from _of_dns(control.dns)
        yield from _of_dns_updates(control.dns_updates)
    if heartbeat is not None:
        yield from _of_cluster(heartbeat)
        yield from _of_addresses(heartbeat)


# ----------------------------------------------------------------------------------------------------------- processes


def _of_tree(report: GatewayReport, heartbeat: HeartbeatReport | None) -> Iterator[Family]:
    tree, workers = report.tree, report.workers
    build = labels(version=report.program, node=report.node)
    yield Family("gateway_build_info", "gauge", "Running version and the name of this gateway; always 1.", [(build, 1)])
    unwell = bool(probes.healthy(report, heartbeat))
    yield _one("gateway_healthy", "1: /healthz answers 200, every process works.", not unwell)
    yield _one(
        "gateway_ready",
        "1: /readyz answers 200; 0: do not send requests to this gateway.",
        not probes.ready(report, report, heartbeat),
    )
    yield _one("gateway_start_time_seconds", "Start time of the supervisor, in seconds since 1970.", tree.started)
    yield _one(
        "gateway_site_version",
        "Which load of the site file is in force; each reload adds one. `gateway history` has other numbers.",
        report.version,
    )
    yield _one(
        "gateway_site_last_reload_success",
        "0: the last reload or start was refused and an earlier configuration is in use; see the log.",
        tree.last_reload.accepted,
    )
    yield _one(
        "gateway_site_started_with_last_good",
        "1: the site file was refused at the start; an earlier configuration is in use until a reload is accepted.",
        tree.last_reload.last_good is not None,
    )
    yield _one(
        "gateway_site_last_reload_success_timestamp_seconds",
        "Time of the last successful reload, in seconds since 1970.",
        tree.last_reload.at,
    )
    yield _one(
        "gateway_overrides",
        "Servers, backends and gateways (this one) that differ from the site file by command; see gateway status.",
        len(report.overrides.of),
    )
    yield Family(
        "gateway_reloads_total",
        "counter",
        "Reloads by result.",
        [(labels(result=result), count) for result, count in tree.reloads.items()],
    )
    yield from _of_certificates(tree.certificates)
    yield from _of_acme(report.acme)
    yield from _of_tracing(report.tracing)
    yield from _of_map_programs(report.map_programs)
    yield Family(
        "gateway_map_renewals_total",
        "counter",
        "Changes of the files of maps by result; refused: a file is wrong and its previous content is in use.",
        [(labels(result=result), count) for result, count in tree.maps.renewals.items()],
    )
    yield Family(
        "gateway_upgrades_failed_total",
        "counter",
        "Upgrades that failed; see the log.",
        [("", tree.upgrades_failed)],
    )
    yield Family(
        "gateway_worker_up",
        "gauge",
        "1: the worker responds; 0: it does not, and its clients wait.",
        [(labels(worker=str(worker.number)), probes.working(worker)) for worker in workers],
    )
    yield Family(
        "gateway_process_deaths_total",
        "counter",
        "Unexpected process exits; each is a bug or a kill.",
        [(labels(process=name), tree.deaths.get(name, 0)) for name in tree.processes],
    )
    yield Family(
        "gateway_process_bad_reports_total",
        "counter",
        "Processes killed for sending the supervisor an invalid message; each is a bug or a break-in.",
        [(labels(process=name), tree.bad_reports.get(name, 0)) for name in tree.processes],
    )
    yield Family(
        "gateway_sandbox_active",
        "gauge",
        "1: this part of the sandbox is active; 0: the site file disables it or the kernel lacks it.",
        [(labels(part=part), on) for part, on in tree.sandbox.items()],
    )
    if report.cluster:
        yield _one(
            "gateway_heartbeat_up", "0: the heartbeat process does not respond and is restarted.", heartbeat is not None
        )
    for name, kind, text, key in _PROCESS:
        yield Family(name, kind, text, [(labels(process=p.name), getattr(p, key)) for p in report.processes])


def _of_certificates(certificates: CertificatesReport) -> Iterator[Family]:
    """Only those that expire first, however many there are."""
    yield _one("gateway_certificates", "Certificates in use.", certificates.count)
    for name, text in (
        ("not_before", "Begin of validity, in seconds since 1970; of the 100 certificates that expire first."),
        ("not_after", "End of validity, in seconds since 1970; of the 100 certificates that expire first."),
    ):
        samples = [(labels(file=one.file), getattr(one, name)) for one in certificates.soonest]
        yield Family(f"gateway_certificate_{name}_seconds", "gauge", text, samples)
    yield Family(
        "gateway_certificate_renewals_total",
        "counter",
        "Changes of certificates on disk by result; refused: a file is wrong and its previous content is in use.",
        [(labels(result=result), count) for result, count in certificates.renewals.items()],
    )


def _of_acme(found: AcmeReport | None) -> Iterator[Family]:
    """Certificates that the gateway gets by itself."""
    if found is None:
        return
    orders = [(labels(result=result), count) for result, count in found.orders.items()]
    yield Family("gateway_acme_orders_total", "counter", "Orders of certificates of this gateway by result.", orders)
    for name, text in (
        ("failures", "Orders of the certificate that failed in a row."),
        ("not_after", "End of validity of the certificate by ACME, in seconds since 1970; 0: there is none yet."),
        ("next", "When the certificate is ordered next, in seconds since 1970."),
    ):
        samples = [(labels(name=one.name), getattr(one, name) or 0) for one in found.certificates]
        unit = "" if name == "failures" else "_seconds"
        yield Family(f"gateway_acme_certificate_{name}{unit}", "gauge", text, samples)
    refused = [(labels(reason=reason), count) for reason, count in found.refused.items()]
    yield Family("gateway_acme_refused_total", "counter", "Refused exchanges with other gateways by reason.", refused)


def _of_tracing(found: TracingReport | None) -> Iterator[Family]:
    """Spans for the collector."""
    if found is None:
        return
    name = "gateway_traces_exported_total"
    yield Family(name, "counter", "Traced requests whose spans the collector has taken.", [("", found.exported)])
    yield _one("gateway_traces_waiting", "Traced requests whose spans wait for the collector.", found.waiting)
    lost = [(labels(reason=reason), count) for reason, count in found.lost.items()]
    yield Family("gateway_traces_lost_total", "counter", "Traced requests whose spans are lost, by reason.", lost)


def _of_map_programs(found: Sequence[MapProgramReport]) -> Iterator[Family]:
    """Programs that are asked for values of maps."""
    if not found:
        return
    name = "gateway_map_program_answers_total"
    answers = [(labels(program=one.program, result="found"), one.found) for one in found]
    answers += [(labels(program=one.program, result="none"), one.none) for one in found]
    yield Family(name, "counter", "Keys answered, by result: found, none.", answers)
    failed = [(labels(program=one.program, reason=reason), n) for one in found for reason, n in one.failed.items()]
    yield Family("gateway_map_program_failures_total", "counter", "Keys without an answer, by reason.", failed)
    starts = [(labels(program=one.program), one.starts) for one in found]
    yield Family("gateway_map_program_starts_total", "counter", "How often the program was started.", starts)
    waiting = [(labels(program=one.program), one.waiting) for one in found]
    yield Family("gateway_map_program_waiting", "gauge", "Keys that it is to be asked for.", waiting)


_PROCESS: Final[tuple[tuple[str, Kind, str, str], ...]] = (
    ("gateway_process_cpu_seconds_total", "counter", "Processor time, user and system.", "cpu_seconds"),
    ("gateway_process_resident_memory_bytes", "gauge", "Memory in use, shared pages included.", "resident_bytes"),
)

# ------------------------------------------------------------------------------------- frontends, backends and servers

_SIDE: Final = {name: side for name, side, _ in OUTCOMES}
_Figures: TypeAlias = tuple[tuple[str, Kind, str, str], ...]
"""Name of a metric, its type, its key in a report, and its help text."""
_FRONTEND: Final[_Figures] = (
    ("connections", "gauge", "open", "Open client connections."),
    ("max_connections", "gauge", "limit", "Limit on open client connections."),
    ("connections_total", "counter", "connections", "Accepted client connections."),
    (
        "turned_away_total",
        "counter",
        "turned_away",
        ("Client connections closed at once: over a limit, or without a PROXY header."),
    ),
    (
        "accept_pauses_total",
        "counter",
        "pauses",
        "Times that a worker accepted no client for 1 s because file descriptors had run out.",
    ),
)


def _figures(of: str, figures: _Figures, reports: Iterable[TrafficReport]) -> Iterator[Family]:
    """A family for each figure, with a sample for each frontend or class."""
    named = [(labels(**{of: one.name}), one) for one in reports]
    for name, kind, key, text in figures:
        yield Family(f"gateway_{of}_{name}", kind, text, [(at, getattr(one, key)) for at, one in named])


def _by_reason(what: str, text: str, counts: Mapping[str, Mapping[str, int]]) -> Family:
    """What has ended at frontends, by their names and the reason."""
    samples = [
        (labels(frontend=name, reason=reason), count)
        for name, reasons in counts.items()
        for reason, count in reasons.items()
    ]
    return Family(f"gateway_frontend_{what}_total", "counter", f"{text}, by reason.", samples)


def _of_frontends(report: GatewayReport) -> Iterator[Family]:
    frontends = report.frontends
    yield from _figures("frontend", _FRONTEND, frontends)
    yield _by_reason("http2_ended", "HTTP/2 connections ended for what their client did", {
        one.name: one.abuses for one in frontends
    })  # fmt: skip
    yield from _of_handshakes(frontends)
    yield _by_reason("tls_handshakes_failed", "TLS handshakes of clients that failed", {
        one.name: one.failed_handshakes for one in frontends
    })  # fmt: skip
    yield from _of_traffic("frontend", frontends)
    yield _durations(
        "frontend",
        "request",
        ("Time from the request head to the end of the response, or to the start of a tunnel."),
        frontends,
    )


def _of_handshakes(frontends: Iterable[FrontendReport]) -> Iterator[Family]:
    """Of clients, where there is TLS."""
    tls = [(labels(frontend=one.name), one.handshakes) for one in frontends if one.handshakes is not None]
    for name, key, text in (
        ("full", "full", "TLS handshakes of clients that made a new session."),
        ("resumed", "resumed", "TLS handshakes of clients that went on with a session."),
    ):
        yield Family(
            f"gateway_frontend_tls_{name}_handshakes_total",
            "counter",
            text,
            [(at, getattr(one, key)) for at, one in tls],
        )


def _of_traffic(kind: str, entrances: Iterable[TrafficReport]) -> Iterator[Family]:
    """Traffic metrics of frontends or backends."""
    named = [(labels(**{kind: one.name}), one) for one in entrances]
    yield Family(
        f"gateway_{kind}_responses_total",
        "counter",
        "Responses by status class, the gateway's own included.",
        [
            (labels(**{kind: one.name, "code": f"{digit}xx"}), count)
            for _, one in named
            for digit, count in enumerate(one.answers, 1)
        ],
    )
    yield Family(
        f"gateway_{kind}_outcomes_total",
        "counter",
        "Requests by outcome and side at fault (client, gateway, server; - for none).",
        [
            (labels(**{kind: one.name, "outcome": outcome, "side": _SIDE[outcome]}), count)
            for _, one in named
            for outcome, count in one.outcomes.items()
        ],
    )
    for name, key, text in (
        ("unanswered", "unanswered", "Requests that ended without a response to the client."),
        ("retried_requests", "retried", "Requests that needed more than one attempt."),
        ("queued_requests", "waited", "Requests that waited in a queue for a server."),
        ("queue_seconds", "waited_seconds", "Time spent in queues; divided by queued_requests_total: the mean wait."),
        ("received_bytes", "bytes_in", "Bodies from clients."),
        ("sent_bytes", "bytes_out", "Bodies to clients."),
    ):
        yield Family(f"gateway_{kind}_{name}_total", "counter", text, [(at, getattr(one, key)) for at, one in named])


def _durations(kind: str, what: str, text: str, entrances: Iterable[TrafficReport]) -> Family:
    samples = [
        sample for one in entrances for sample in histogram(BOUNDS, one.durations, one.seconds, **{kind: one.name})
    ]
    return Family(f"gateway_{kind}_{what}_duration_seconds", "histogram", text, samples)


def _waits(kind: str, entrances: Iterable[TrafficReport]) -> Family:
    text = "Time that requests which had to wait spent in queues."
    samples = [
        sample for one in entrances for sample in histogram(BOUNDS, one.waits, one.waited_seconds, **{kind: one.name})
    ]
    return Family(f"gateway_{kind}_queue_duration_seconds", "histogram", text, samples)


def _of_backends(report: GatewayReport) -> Iterator[Family]:
    named = [(labels(backend=backend.name), backend.servers) for backend in report.backends]
    yield Family(
        "gateway_backend_servers", "gauge", "Servers in the backend.", [(at, len(servers)) for at, servers in named]
    )
    yield Family(
        "gateway_backend_servers_available",
        "gauge",
        "Servers that are up, in rotation and ready; 0: clients get 503.",
        [(at, sum(server.available for server in servers)) for at, servers in named],
    )
    limited = [(backend.name, backend.concurrency) for backend in report.backends if backend.concurrency]
    for name, key, text in _CONCURRENCY:
        yield Family(
            f"gateway_backend_{name}",
            "gauge",
            text,
            [(labels(backend=at), getattr(limit, key)) for at, limit in limited],
        )
    yield Family(
        "gateway_backend_concurrency_reason_info",
        "gauge",
        "Reason for the limit: start, unused, growing, latency, probe or fixed; always 1.",
        [(labels(backend=at, reason=limit.why), 1) for at, limit in limited],
    )
    yield from _of_traffic("backend", report.backends)
    yield _durations(
        "backend",
        "response",
        ("Time from the request head to the response head, including queueing and retries."),
        report.backends,
    )
    yield _waits("backend", report.backends)
    yield Family(
        "gateway_backend_queued",
        "gauge",
        "Requests that wait for a server of the backend now.",
        [(labels(backend=one.name), one.queued) for one in report.backends],
    )
    yield Family(
        "gateway_backend_retries_total",
        "counter",
        "Further attempts by cause: connect, tls, stale (idle connection, closed by the server), reset or status.",
        [
            (labels(backend=one.name, cause=cause), count)
            for one in report.backends
            for cause, count in one.retries.items()
        ],
    )


_CONCURRENCY: Final = (
    (
        "concurrency_limit",
        "limit",
        "Limit on requests at its servers at once, by overload control; absent: not yet known.",
    ),
    ("concurrency", "in_flight", "Requests at its servers now."),
    ("unqueued_response_seconds", "base", "Response time of its servers without a queue there."),
    ("recent_response_seconds", "recent", "Response time of its servers now."),
)


_SERVER: Final[tuple[tuple[str, Kind, Figure, str], ...]] = (
    ("up", "gauge", lambda s: s.in_rotation, "0: down by health check or agent, or ejected."),
    ("ready", "gauge", lambda s: s.admin == "ready", "0: in drain or maintenance."),
    (
        "ejected",
        "gauge",
        lambda s: s.ejection == "ejected",
        ("1: ejected from rotation because of its responses (outlier)."),
    ),
    (
        "weight",
        "gauge",
        lambda s: s.effective_weight,
        ("Effective weight relative to the other servers of the backend."),
    ),
    (
        "slow_start_ratio",
        "gauge",
        lambda s: s.slow_start,
        "Share of its normal load during slow start; 1: no slow start.",
    ),
    ("in_flight", "gauge", lambda s: s.in_flight, "Requests in flight at the server."),
    ("max_connections", "gauge", lambda s: s.max_connections, "Limit on requests in flight; absent: no limit."),
    ("load_ratio", "gauge", lambda s: s.load, "Load that the server reports, 1 is full; absent: no recent report."),
    (
        "sessions",
        "gauge",
        lambda s: s.sessions,
        ("Sessions with affinity to the server, seen in the last ten minutes."),
    ),
    ("requests_total", "counter", lambda s: s.requests, "Finished requests."),
    (
        "failures_total",
        "counter",
        lambda s: s.failures,
        ("Requests the server failed: no response, a broken one, or 5xx."),
    ),
    (
        "request_seconds_total",
        "counter",
        lambda s: s.busy_seconds,
        "Total time of finished requests; divided by requests_total: the mean.",
    ),
    ("connections_opened_total", "counter", lambda s: s.pool.opened, "Connections to the server that were begun."),
    (
        "connections_reused_total",
        "counter",
        lambda s: s.pool.reused,
        "Requests sent over an idle connection to the server.",
    ),
    (
        "tls_full_handshakes_total",
        "counter",
        lambda s: s.handshakes.full if s.handshakes else None,
        "TLS handshakes with the server that made a new session; absent: no TLS.",
    ),
    (
        "tls_resumed_handshakes_total",
        "counter",
        lambda s: s.handshakes.resumed if s.handshakes else None,
        "TLS handshakes with the server that went on with a session; absent: no TLS.",
    ),
    ("received_bytes_total", "counter", lambda s: s.bytes_in, "Body bytes from clients to the server."),
    ("sent_bytes_total", "counter", lambda s: s.bytes_out, "Body bytes from the server to clients."),
    (
        "check_success",
        "gauge",
        lambda s: s.check.good if s.check else None,
        ("0: the last health check failed; several in a row take the server down."),
    ),
    (
        "check_duration_seconds",
        "gauge",
        lambda s: s.check.seconds if s.check else None,
        "Duration of the last health check.",
    ),
    ("agent_success", "gauge", lambda s: s.agent.good if s.agent else None, "0: the text agent did not respond."),
    (
        "agent_duration_seconds",
        "gauge",
        lambda s: s.agent.seconds if s.agent else None,
        "Duration of the last query of the text agent.",
    ),
)


def _of_servers(report: GatewayReport) -> Iterator[Family]:
    named = [
        (labels(backend=backend.name, server=server.name), server)
        for backend in report.backends
        for server in backend.servers
    ]
    for name, kind, figure, text in _SERVER:
        yield Family(f"gateway_server_{name}", kind, text, ((at, figure(server)) for at, server in named))


_CLASS: Final[_Figures] = (
    ("in_flight", "gauge", "in_flight", "Requests of the class in flight at servers."),
    ("queued", "gauge", "queued", "Requests of the class that wait for a server now."),
    ("max_in_flight", "gauge", "concurrency", "Limit on requests of the class in flight; absent: no limit."),
    ("admitted_total", "counter", "admitted", "Requests admitted: not refused by a limit, a queue or `admit: never`."),
    ("over_limit_total", "counter", "over", "Requests over a limit that only counts (dry_run: true)."),
)


def _of_classes(report: GatewayReport) -> Iterator[Family]:
    classes = report.classes
    yield from _figures("class", _CLASS, classes)
    yield from _of_traffic("class", classes)
    yield _durations(
        "class",
        "request",
        ("Time from the request head to the end of the response, or to the start of a tunnel."),
        classes,
    )
    yield _waits("class", classes)


_SESSIONS: Final[_Figures] = (
    ("live", "gauge", "live", "Sessions now."),
    ("max", "gauge", "max", "Limit of sessions; with `max: auto` as measured."),
    ("waiting", "gauge", "waiting", "Clients that wait for a session."),
    ("present", "gauge", "present", "Of these, clients that ask again in time."),
    ("places", "gauge", "places", "Limit of clients that wait."),
    ("early", "gauge", "early", "Clients that have come before the opening."),
    ("advance_rate", "gauge", "advance_rate", "Clients that leave the queue for a session, per second."),
    ("entered_total", "counter", "entered", "Clients that had to wait and have got a session."),
    ("admitted_total", "counter", "admitted", "Sessions that have begun or were adopted."),
    (
        *("adopted_total", "counter", "adopted"),
        "Of these, sessions that another gateway, or this one before a restart, had admitted.",
    ),
)


def _of_sessions(report: GatewayReport) -> Iterator[Family]:
    found = report.sessions
    for name, kind, figure, text in _SESSIONS:
        value = getattr(found, figure) if found is not None else None
        yield Family(f"gateway_sessions_{name}", kind, text, [("", value)] if value is not None else [])


def _of_memory(report: GatewayReport) -> Iterator[Family]:
    found = report.memory
    used = [("", found.used)] if found.used is not None else []
    yield Family(
        "gateway_memory_used_ratio", "gauge", "Used part of the memory of the machine, or of its control group.", used
    )
    text = "1: too little memory is free, and new client connections are closed at once (overload: memory)."
    yield _one("gateway_memory_short", text, found.short)


def _of_others(report: GatewayReport) -> Iterator[Family]:
    """Logs; datagrams from agents, gateways and sites."""
    yield Family(
        "gateway_access_log_lost_lines_total",
        "counter",
        "Access log lines that could not be written: disk full, or reader or receiver too slow or absent.",
        [("", report.lost_lines)],
    )
    yield Family(
        "gateway_refused_datagrams_total",
        "counter",
        "Rejected datagrams: wrong key, clock skew or forgery; see the log.",
        [
            (labels(what=what, reason=reason), count)
            for what, refused in sorted(report.refused.items())
            for reason, count in sorted(refused.items())
        ],
    )
    yield Family(
        "gateway_site_load_ratio",
        "gauge",
        "Load of each site, 1 is full; absent: unknown.",
        [(labels(site=site), load) for site, load in sorted(report.sites.items())],
    )
    states = sorted(report.site_states.items())
    yield Family(
        "gateway_site_up",
        "gauge",
        "1: the site is heard.",
        [(labels(site=site), state.up) for site, state in states],
    )
    yield Family(
        "gateway_site_sessions_free",
        "gauge",
        "Clients that each site can still give a session; absent: as many as come.",
        [(labels(site=site), state.sessions_free) for site, state in states],
    )
    yield Family(
        "gateway_site_backend_up_ratio",
        "gauge",
        "Part of the servers of each backend that works, by site.",
        [(labels(site=site, backend=name), part) for site, state in states for name, part in state.backends.items()],
    )
    yield Family(
        "gateway_site_dns_responses_per_second",
        "gauge",
        "Responses of the name servers of each site; absent: none works.",
        [(labels(site=site), state.responses) for site, state in states],
    )
    yield Family(
        "gateway_site_evacuated",
        "gauge",
        "1: the site is evacuated, by command or in a maintenance window.",
        [(labels(site=site), state.evacuated) for site, state in states],
    )


def _of_dns_updates(found: Sequence[DnsUpdateReport]) -> Iterator[Family]:
    if found:
        yield Family(
            "gateway_dns_updates_total",
            "counter",
            "Sets of records changed at other name servers (result changed), and failures by their names.",
            [
                (labels(zone=one.zone, result=result), count)
                for one in found
                for result, count in sorted(one.counts.items())
            ],
        )


def _of_dns(found: DnsReport | None) -> Iterator[Family]:
    """The name server."""
    if found is None:
        return
    yield Family(
        "gateway_dns_queries_total",
        "counter",
        "DNS messages received, by transport.",
        [(labels(transport=name), count) for name, count in (("udp", found.udp), ("tcp", found.tcp))],
    )
    yield Family("gateway_dns_responses_total", "counter", "DNS responses by code.", _counts(found.codes, "code"))
    yield Family(
        "gateway_dns_dropped_total",
        "counter",
        "Datagrams without a response: silent (not a query), rate (response_rate), send (socket error).",
        _counts(found.dropped, "reason"),
    )
    for name, key, text in _DNS:
        yield Family(f"gateway_dns_{name}", "counter", text, [("", getattr(found, key))])
    yield _one("gateway_dns_tcp_open", "Open TCP connections of DNS clients.", found.tcp_connections)
    yield Family(
        "gateway_dns_tcp_total",
        "counter",
        "TCP connections of DNS clients: connections, refused (over a limit), idle (timed out), malformed.",
        _counts(found.tcp_counts, "what"),
    )
    yield Family(
        "gateway_dns_share_ratio",
        "gauge",
        "Part of clients that gets each site first, for the first 100 names.",
        [(labels(name=one.name, site=site), share) for one in found.names for site, share in one.shares.items()],
    )
    yield _one("gateway_dns_open_names", "Names none of whose sites works; all are answered.", found.open_names)


_DNS: Final = (
    ("truncated_total", "truncated", "Responses with TC: the client asks again over TCP."),
    ("edns_queries_total", "edns", "Queries with EDNS."),
    ("client_subnet_queries_total", "subnets", "Queries with an EDNS client subnet."),
    ("cookies_total", "cookies", "Queries with a valid DNS cookie of this server."),
    ("bad_cookies_total", "bad_cookies", "Queries with a DNS cookie that is not of this server, or too old."),
    ("signatures_total", "signatures", "Signatures made for signed zones."),
    ("places_failed_total", "places_failed", "Lookups in the MaxMind file that have failed: it is damaged."),
    ("unsigned_total", "unsigned", "SERVFAIL, since too many names that do not exist were asked for to sign for all."),
)


# ------------------------------------------------------------------------------------------------------------- cluster


def _of_cluster(report: HeartbeatReport) -> Iterator[Family]:
    nodes = report.nodes
    links = [(labels(node=node.name, link=name), link) for node in nodes for name, link in sorted(node.links.items())]
    yield _one(
        "gateway_heartbeat_may_split",
        "1: two nodes without a witness; a partition can make both own an address.",
        report.mode == "may split",
    )
    yield _one(
        "gateway_heartbeat_lease_in_kernel",
        "0: the kernel does not enforce leases; only the guardian silences a frozen owner.",
        report.lease_enforced_by == "kernel",
    )
    yield _one(
        "gateway_heartbeat_doubts",
        "Kernel settings that are wrong for address takeover; `gateway status` names them.",
        len(report.doubts),
    )
    yield Family(
        "gateway_heartbeat_node_alive",
        "gauge",
        "0: dead, no beats on any link.",
        [(labels(node=n.name), n.alive) for n in nodes],
    )
    yield Family(
        "gateway_heartbeat_node_joined",
        "gauge",
        "0: the operator set standby or drain; `gateway join` ends it.",
        [(labels(node=n.name), n.state == "join") for n in nodes if n.state],
    )
    yield Family(
        "gateway_heartbeat_node_same_settings",
        "gauge",
        "0: the node's site file has different nodes, addresses or timers.",
        [(labels(node=n.name), n.same_settings) for n in nodes],
    )
    yield Family(
        "gateway_heartbeat_link_up",
        "gauge",
        "0: no beats for dead_after.",
        [(at, link.alive) for at, link in links],
    )
    yield Family(
        "gateway_heartbeat_link_loss_ratio",
        "gauge",
        "Share of lost beats.",
        [(at, link.loss) for at, link in links],
    )
    yield Family(
        "gateway_heartbeat_link_delay_seconds",
        "gauge",
        "One-way delay: half the round-trip time.",
        [(at, link.delay) for at, link in links],
    )
    yield Family(
        "gateway_heartbeat_refused_beats_total",
        "counter",
        "Rejected beats: wrong key, replay, or unknown node.",
        _counts(report.refused, "reason"),
    )
    yield Family(
        "gateway_heartbeat_program_failures_total",
        "counter",
        "Failed runs of external programs: fence, hooks, resources.",
        _counts(report.failures, "program"),
    )
    health = report.health
    yield _one(
        "gateway_heartbeat_health",
        "Fitness of this node to serve, 1 to 255; `gateway status` gives the reason.",
        health.measured,
    )
    yield _one(
        "gateway_heartbeat_health_believed",
        ("Fitness after damping; it decides which node owns an address."),
        health.believed,
    )
    yield Family(
        "gateway_heartbeat_health_falls_total",
        "counter",
        "Times the fitness fell; a high rate means flapping.",
        [("", health.falls)],
    )
    yield _one(
        "gateway_heartbeat_damping_seconds",
        ("Time the node must stay healthy before its fitness rises."),
        health.hold,
    )


def _of_addresses(report: HeartbeatReport) -> Iterator[Family]:
    addresses = report.addresses
    yield Family(
        "gateway_heartbeat_owner",
        "gauge",
        "1: this gateway has the address; the sum over all gateways is 1.",
        [(labels(address=a.address), a.state == "owner") for a in addresses],
    )
    yield Family(
        "gateway_heartbeat_address_owned",
        "gauge",
        "0: no known owner.",
        [(labels(address=a.address), a.owner is not None) for a in addresses],
    )
    yield Family(
        "gateway_heartbeat_address_owner_info",
        "gauge",
        "Owner of the address; always 1.",
        [(labels(address=a.address, owner=a.owner), 1) for a in addresses if a.owner is not None],
    )
    yield Family(
        "gateway_heartbeat_address_state_info",
        "gauge",
        "State of this gateway for the address: init, backup, owner or fault; always 1.",
        [(labels(address=a.address, state=a.state), 1) for a in addresses],
    )
    for name, text in (
        ("takeovers", "Takeovers of the address by this gateway."),
        ("releases", "Releases of the address by this gateway, voluntary or not."),
        ("contests", "Times another node claimed the address while this gateway owned it."),
    ):
        counts: Mapping[str, int] = getattr(report, name)
        yield Family(
            f"gateway_heartbeat_{name}_total",
            "counter",
            text,
            [(labels(address=a.address), counts.get(a.address, 0)) for a in addresses],
        )


def _one(name: str, text: str, value: float) -> Family:
    return Family(name, "gauge", text, [("", value)])


def _counts(counted: Mapping[str, int], label: str) -> Iterable[Sample]:
    return [(labels(**{label: name}), count) for name, count in sorted(counted.items())]
