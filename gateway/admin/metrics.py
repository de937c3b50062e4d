"""What there is to be measured of a gateway, from the answers of control and heartbeat to `gateway status`. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from gateway.admin import probes
from gateway.admin.exposition import Family, Kind, Sample, histogram, labels
from gateway.admin.exposition import text as exposition
from gateway.board import BOUNDS
from gateway.outcome import OUTCOMES

Report = Mapping[str, Any]
Figure = Callable[[Any], float | None]


def text(control: Report | None, heartbeat: Report | None) -> str:
    """Everything in the text format of Prometheus; None: who would know does not answer, or is not there."""
    return exposition(families(control, heartbeat))


def families(control: Report | None, heartbeat: Report | None) -> Iterator[Family]:
    """Every metric that the two answers have figures for."""
    if control is not None:
        yield from _of_tree(control, heartbeat)
        yield from _of_frontends(control)
        yield from _of_backends(control)
        yield from _of_servers(control)
        yield from _of_classes(control)
        yield from _of_others(control)
    if heartbeat is not None:
        yield from _of_cluster(heartbeat)
        yield from _of_addresses(heartbeat)


# ----------------------------------------------------------------------------------------------------------- processes


def _of_tree(report: Report, heartbeat: Report | None) -> Iterator[Family]:
    tree, workers, cluster = report["tree"], report["workers"], report["cluster"]
    build = labels(version=report["program"], node=report["node"])
    yield Family(
        "gateway_build_info", "gauge", "Version that runs, and the name of this gateway; always 1.", [(build, 1)]
    )
    unwell = bool(probes.healthy(report, heartbeat, cluster=cluster))
    yield _one("gateway_healthy", "1 as /healthz answers 200: every process works.", not unwell)
    yield _one(
        "gateway_ready",
        "1 as /readyz answers 200; 0: nobody should send it requests.",
        not probes.ready(report, heartbeat),
    )
    yield _one("gateway_start_time_seconds", "Start of the supervisor, in seconds since 1970.", tree["started"])
    yield _one(
        "gateway_site_version",
        "Version of the site file that control works by; one more with each change.",
        report["version"],
    )
    yield _one(
        "gateway_site_last_reload_success",
        "0: the site file as it is now was refused; the log says why.",
        tree["last_reload"]["accepted"],
    )
    yield _one(
        "gateway_site_last_reload_success_timestamp_seconds",
        "When a site file was taken up last, in seconds since 1970.",
        tree["last_reload"]["at"],
    )
    yield Family(
        "gateway_reloads_total",
        "counter",
        "Reloads by result.",
        [(labels(result=result), count) for result, count in tree["reloads"].items()],
    )
    yield Family(
        "gateway_upgrades_failed_total",
        "counter",
        "Upgrades that came to nothing; see the log.",
        [("", tree["upgrades_failed"])],
    )
    yield Family(
        "gateway_worker_up",
        "gauge",
        "1: the worker answers; 0: its share of the clients waits.",
        [(labels(worker=str(worker["number"])), probes.working(worker)) for worker in workers],
    )
    yield Family(
        "gateway_process_deaths_total",
        "counter",
        "Ends of processes that nobody asked for; each is a bug or a kill.",
        [(labels(process=name), tree["deaths"].get(name, 0)) for name in tree["processes"]],
    )
    yield Family(
        "gateway_process_bad_reports_total",
        "counter",
        "Processes killed because they sent the supervisor what is not a report; each is a bug or a break-in.",
        [(labels(process=name), tree["bad_reports"].get(name, 0)) for name in tree["processes"]],
    )
    yield Family(
        "gateway_sandbox_active",
        "gauge",
        "1: this part of the sandbox holds the processes; 0: the site file or the kernel has it off.",
        [(labels(part=part), on) for part, on in tree["sandbox"].items()],
    )
    if cluster:
        yield _one(
            "gateway_heartbeat_up", "0: the heartbeat process is silent; it is started anew.", heartbeat is not None
        )
    for name, kind, text, key in _PROCESS:
        yield Family(name, kind, text, [(labels(process=p["name"]), p[key]) for p in report["processes"]])


_PROCESS: Final[tuple[tuple[str, Kind, str, str], ...]] = (
    ("gateway_process_cpu_seconds_total", "counter", "Processor time, user and system.", "cpu_seconds"),
    ("gateway_process_resident_memory_bytes", "gauge", "Memory in use, shared pages included.", "resident_bytes"),
)

# ------------------------------------------------------------------------------------- frontends, backends and servers

_SIDE: Final = {name: side for name, side, _ in OUTCOMES}
_Figures: TypeAlias = tuple[tuple[str, Kind, str, str], ...]
"""Name of a figure, its kind, its key in a report, and what it is."""
_FRONTEND: Final[_Figures] = (
    ("connections", "gauge", "open", "Connections of clients that are open."),
    ("max_connections", "gauge", "limit", "How many there may be."),
    ("connections_total", "counter", "connections", "Connections that were accepted."),
    ("turned_away_total", "counter", "turned_away", "Of them, those closed at once: too many, or no PROXY header."),
)


def _figures(of: str, figures: _Figures, reports: Iterable[Report]) -> Iterator[Family]:
    """A family for each figure, with a sample for each frontend or class."""
    named = [(labels(**{of: one["name"]}), one) for one in reports]
    for name, kind, key, text in figures:
        yield Family(f"gateway_{of}_{name}", kind, text, [(at, one[key]) for at, one in named])


def _of_frontends(report: Report) -> Iterator[Family]:
    frontends = report["frontends"]
    yield from _figures("frontend", _FRONTEND, frontends)
    yield from _of_traffic("frontend", frontends)
    yield _durations(
        "frontend", "request", "From a request's head to its answer's end, a tunnel's beginning.", frontends
    )


def _of_traffic(kind: str, entrances: Iterable[Report]) -> Iterator[Family]:
    """What has passed through frontends or backends."""
    named = [(labels(**{kind: one["name"]}), one) for one in entrances]
    yield Family(
        f"gateway_{kind}_responses_total",
        "counter",
        "Answers by the class of their status, those of the gateway itself, too.",
        [
            (labels(**{kind: one["name"], "code": f"{digit}xx"}), count)
            for _, one in named
            for digit, count in enumerate(one["answers"], 1)
        ],
    )
    yield Family(
        f"gateway_{kind}_outcomes_total",
        "counter",
        "Requests by how they ended and the side at fault (client, gateway, server, or - for none).",
        [
            (labels(**{kind: one["name"], "outcome": outcome, "side": _SIDE[outcome]}), count)
            for _, one in named
            for outcome, count in one["outcomes"].items()
        ],
    )
    for name, key, text in (
        ("unanswered", "unanswered", "Requests that ended without a response."),
        ("retried_requests", "retried", "Requests that needed more than one try."),
        ("queued_requests", "waited", "Requests that waited for room at a server."),
        ("queue_seconds", "waited_seconds", "Time that they waited; by queued_requests: the mean."),
        ("received_bytes", "bytes_in", "Bodies from clients."),
        ("sent_bytes", "bytes_out", "Bodies to clients."),
    ):
        yield Family(f"gateway_{kind}_{name}_total", "counter", text, [(at, one[key]) for at, one in named])


def _durations(kind: str, what: str, text: str, entrances: Iterable[Report]) -> Family:
    samples = [
        sample
        for one in entrances
        for sample in histogram(BOUNDS, one["durations"], one["seconds"], **{kind: one["name"]})
    ]
    return Family(f"gateway_{kind}_{what}_duration_seconds", "histogram", text, samples)


def _of_backends(report: Report) -> Iterator[Family]:
    named = [(labels(backend=backend["name"]), backend["servers"]) for backend in report["backends"]]
    yield Family(
        "gateway_backend_servers", "gauge", "Servers of the backend.", [(at, len(servers)) for at, servers in named]
    )
    yield Family(
        "gateway_backend_servers_available",
        "gauge",
        "Of them: neither down nor ejected nor taken out of service; 0: clients get 503.",
        [(at, sum(map(_available, servers))) for at, servers in named],
    )
    yield from _of_traffic("backend", report["backends"])
    yield _durations(
        "backend", "response", "From a request's head to its answer's, with queue and retries.", report["backends"]
    )


def _available(server: Any) -> bool:
    return _in_rotation(server) and bool(server["admin"] == "ready")


def _in_rotation(server: Any) -> bool:
    return bool(server["state"] != "down" and server["ejection"] != "ejected")


def _of_last(kind: str, what: str) -> Figure:
    return lambda server: server[kind] and server[kind][what]


_SERVER: Final[tuple[tuple[str, Kind, Figure, str], ...]] = (
    ("up", "gauge", _in_rotation, "0: down by its checks or its agent, or ejected."),
    ("ready", "gauge", lambda s: s["admin"] == "ready", "0: in drain or maintenance."),
    ("ejected", "gauge", lambda s: s["ejection"] == "ejected", "1: out of rotation for how it answers."),
    ("weight", "gauge", lambda s: s["effective_weight"], "Effective weight, relative to the others of its backend."),
    (
        "slow_start_ratio",
        "gauge",
        lambda s: s["slow_start"],
        "Share of its work that it may have; below 1: it is back.",
    ),
    ("in_flight", "gauge", lambda s: s["in_flight"], "Requests that it works on now."),
    ("max_connections", "gauge", lambda s: s["max_connections"], "How many it may work on; no figure: no limit."),
    ("load_ratio", "gauge", lambda s: s["load"], "Load that it reports, 1 when full; no figure: none of late."),
    ("sessions", "gauge", lambda s: s["sessions"], "Sessions of the last ten minutes, with affinity; in drain: left."),
    ("requests_total", "counter", lambda s: s["requests"], "Requests that are over."),
    ("failures_total", "counter", lambda s: s["failures"], "Of them, by its fault: no answer, a broken one, 5xx."),
    (
        "request_seconds_total",
        "counter",
        lambda s: s["busy_seconds"],
        "Time of all of them; by requests_total: the mean.",
    ),
    ("received_bytes_total", "counter", lambda s: s["bytes_in"], "Bodies from clients to the server."),
    ("sent_bytes_total", "counter", lambda s: s["bytes_out"], "Bodies from the server to clients."),
    ("check_success", "gauge", _of_last("check", "good"), "0: the last check failed; several make it down."),
    ("check_duration_seconds", "gauge", _of_last("check", "seconds"), "How long the last check took."),
    ("agent_success", "gauge", _of_last("agent", "good"), "0: its text agent did not answer."),
    ("agent_duration_seconds", "gauge", _of_last("agent", "seconds"), "How long its text agent took."),
)


def _of_servers(report: Report) -> Iterator[Family]:
    named = [
        (labels(backend=backend["name"], server=server["name"]), server)
        for backend in report["backends"]
        for server in backend["servers"]
    ]
    for name, kind, figure, text in _SERVER:
        yield Family(f"gateway_server_{name}", kind, text, ((at, figure(server)) for at, server in named))


_CLASS: Final[_Figures] = (
    ("in_flight", "gauge", "in_flight", "Requests of the class that are at servers now."),
    ("max_in_flight", "gauge", "concurrency", "How many there may be; no figure: no limit."),
    ("admitted_total", "counter", "admitted", "Requests that no limit, no queue and no `admit: never` turned away."),
    ("over_limit_total", "counter", "over", "Requests over a limit that only counts (dry_run)."),
)


def _of_classes(report: Report) -> Iterator[Family]:
    classes = report["classes"]
    yield from _figures("class", _CLASS, classes)
    yield from _of_traffic("class", classes)
    yield _durations("class", "request", "From a request's head to its answer's end, a tunnel's beginning.", classes)


def _of_others(report: Report) -> Iterator[Family]:
    """What comes in datagrams from agents, gateways and sites."""
    yield Family(
        "gateway_refused_datagrams_total",
        "counter",
        "Datagrams that were not believed: a wrong key, a clock that is off, a forger; see the log.",
        [
            (labels(what=what, reason=reason), count)
            for what, refused in sorted(report["refused"].items())
            for reason, count in sorted(refused.items())
        ],
    )
    yield Family(
        "gateway_site_load_ratio",
        "gauge",
        "Load of this and other sites, 1 when full; no figure: nothing is known.",
        [(labels(site=site), load) for site, load in sorted(report["sites"].items())],
    )


# ------------------------------------------------------------------------------------------------------------- cluster


def _of_cluster(report: Report) -> Iterator[Family]:
    nodes = report["nodes"]
    links = [
        (labels(node=node["name"], link=name), link) for node in nodes for name, link in sorted(node["links"].items())
    ]
    yield _one(
        "gateway_heartbeat_may_split",
        "1: two nodes without a witness, both may own an address.",
        report["mode"] == "may split",
    )
    yield _one(
        "gateway_heartbeat_lease_in_kernel",
        "0: a frozen owner is silenced by the guardian only.",
        report["lease_enforced_by"] == "kernel",
    )
    yield _one(
        "gateway_heartbeat_doubts",
        "Settings of the kernel that are amiss; `gateway status` names them.",
        len(report["doubts"]),
    )
    yield Family(
        "gateway_heartbeat_node_alive",
        "gauge",
        "0: silent on every link.",
        [(labels(node=n["name"]), n["alive"]) for n in nodes],
    )
    yield Family(
        "gateway_heartbeat_node_joined",
        "gauge",
        "0: an operator asked for standby or drain there; `gateway join` returns.",
        [(labels(node=n["name"]), n["state"] == "join") for n in nodes if n["state"]],
    )
    yield Family(
        "gateway_heartbeat_node_same_settings",
        "gauge",
        "0: its site file names other nodes, addresses or times.",
        [(labels(node=n["name"]), n.get("same_settings", True)) for n in nodes],
    )
    yield Family(
        "gateway_heartbeat_link_up",
        "gauge",
        "0: nothing was heard for dead_after.",
        [(at, link["alive"]) for at, link in links],
    )
    yield Family(
        "gateway_heartbeat_link_loss_ratio",
        "gauge",
        "Share of beats that are lost.",
        [(at, link["loss"]) for at, link in links],
    )
    yield Family(
        "gateway_heartbeat_link_delay_seconds",
        "gauge",
        "One way: half of the time there and back.",
        [(at, link["delay"]) for at, link in links],
    )
    yield Family(
        "gateway_heartbeat_refused_beats_total",
        "counter",
        "Beats that were not believed: a wrong key, a replay, or a stranger.",
        _counts(report["refused"], "reason"),
    )
    yield Family(
        "gateway_heartbeat_program_failures_total",
        "counter",
        "Programs that did not end well: fence, hooks, resources.",
        _counts(report["failures"], "program"),
    )
    health = report["health"]
    yield _one(
        "gateway_heartbeat_health",
        "How fit this node is to serve, 1 to 255; `gateway status` says why.",
        health["measured"],
    )
    yield _one(
        "gateway_heartbeat_health_believed", "The same, damped: what decides who owns an address.", health["believed"]
    )
    yield Family(
        "gateway_heartbeat_health_falls_total",
        "counter",
        "How often it became less fit; often is flapping.",
        [("", health["falls"])],
    )
    yield _one("gateway_heartbeat_damping_seconds", "How long it must be well before that is believed.", health["hold"])


def _of_addresses(report: Report) -> Iterator[Family]:
    addresses = report["addresses"]
    yield Family(
        "gateway_heartbeat_owner",
        "gauge",
        "1: this gateway has the address; the sum over all gateways is 1.",
        [(labels(address=a["address"]), a["state"] == "owner") for a in addresses],
    )
    yield Family(
        "gateway_heartbeat_address_owned",
        "gauge",
        "0: as far as this gateway knows nobody has it.",
        [(labels(address=a["address"]), a["owner"] is not None) for a in addresses],
    )
    yield Family(
        "gateway_heartbeat_address_owner_info",
        "gauge",
        "Who has it; always 1.",
        [(labels(address=a["address"], owner=a["owner"]), 1) for a in addresses if a["owner"] is not None],
    )
    yield Family(
        "gateway_heartbeat_address_state_info",
        "gauge",
        "What this gateway is for it: init, backup, owner or fault; always 1.",
        [(labels(address=a["address"], state=a["state"]), 1) for a in addresses],
    )
    for name, text in (
        ("takeovers", "How often the address came here."),
        ("releases", "How often it went from here, whether given away or lost."),
        ("contests", "How often somebody else was heard to claim it while it was here."),
    ):
        counts = report[name]
        yield Family(
            f"gateway_heartbeat_{name}_total",
            "counter",
            text,
            [(labels(address=a["address"]), counts.get(a["address"], 0)) for a in addresses],
        )


def _one(name: str, text: str, value: float) -> Family:
    return Family(name, "gauge", text, [("", value)])


def _counts(counted: Mapping[str, int], label: str) -> Iterable[Sample]:
    return [(labels(**{label: name}), count) for name, count in sorted(counted.items())]
