"""Every figure is there, under the name that the documentation has."""

import re
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway.admin import metrics
from tests.admin.reports import CHECK, SERVER, control, heartbeat

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


def samples(one, other):
    """Every sample, by name and labels."""
    families = text_string_to_metric_families(metrics.text(one, other))
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def test_servers_and_processes():
    found = samples(control(SERVER, replace(SERVER, name="app2", state="down", load=None, check=None)), None)
    assert found["gateway_build_info", "1.2.3", "gw1"] == 1
    assert found["gateway_reloads_total", "refused"] == 1
    assert found["gateway_site_last_reload_success",] == 0
    assert found["gateway_process_deaths_total", "worker 0"] == 4
    assert found["gateway_process_bad_reports_total", "worker 0"] == 1
    assert found["gateway_process_bad_reports_total", "control"] == 0
    assert found["gateway_process_cpu_seconds_total", "worker 0"] == 1.25
    assert found["gateway_worker_up", "0"] == 1
    assert found["gateway_backend_servers", "app"] == 2
    assert found["gateway_backend_servers_available", "app"] == 1
    assert found["gateway_server_up", "app", "app1"] == 1
    assert found["gateway_server_up", "app", "app2"] == 0
    assert found["gateway_server_weight", "app", "app1"] == 0.5
    assert found["gateway_server_requests_total", "app", "app1"] == 7
    assert found["gateway_server_request_seconds_total", "app", "app1"] == 1.5
    assert found["gateway_server_check_duration_seconds", "app", "app1"] == 0.003
    assert found["gateway_server_load_ratio", "app", "app1"] == 0.25
    assert ("gateway_server_load_ratio", "app", "app2") not in found
    assert ("gateway_server_check_success", "app", "app2") not in found
    assert found["gateway_refused_datagrams_total", "bad signature", "load report"] == 3
    assert found["gateway_site_load_ratio", "mel"] == 0.5
    assert ("gateway_site_load_ratio", "syd") not in found
    assert not [name for name, *_ in found if name.startswith("gateway_heartbeat")]


def test_traffic_of_frontends_and_backends():
    found = samples(control(), None)
    assert found["gateway_frontend_connections", "web"] == 6
    assert found["gateway_frontend_max_connections", "web"] == 100
    assert found["gateway_frontend_connections_total", "web"] == 50
    assert found["gateway_frontend_turned_away_total", "web"] == 8
    for kind, name, what in ("frontend", "web", "request"), ("backend", "app", "response"):
        codes = [f"{digit}xx" for digit in range(1, 6)]
        assert [found[f"gateway_{kind}_responses_total", code, name] for code in codes] == [0, 5, 1, 2, 3]
        assert found[f"gateway_{kind}_unanswered_total", name] == 4
        assert found[f"gateway_{kind}_received_bytes_total", name] == 30
        assert found[f"gateway_{kind}_sent_bytes_total", name] == 40
        durations = f"gateway_{kind}_{what}_duration_seconds"
        assert found[f"{durations}_bucket", "0.0005", name] == 1
        assert found[f"{durations}_bucket", "0.001", name] == found[f"{durations}_bucket", "10.0", name] == 3
        assert found[f"{durations}_bucket", "30.0", name] == 6
        assert found[f"{durations}_bucket", "+Inf", name] == found[f"{durations}_count", name] == 15
        assert found[f"{durations}_sum", name] == 2.5


def test_the_name_server():
    found = samples(control(), None)
    assert found["gateway_dns_queries_total", "tcp"] == 3
    assert found["gateway_dns_responses_total", "REFUSED"] == 2
    assert found["gateway_dns_dropped_total", "silent"] == 1
    assert found["gateway_dns_share_ratio", "syd", "www.example.com"] == 0.75
    assert found["gateway_dns_open_names",] == 0
    assert not [name for name, *_ in samples(control(dns=None, dns_updates=()), None) if name.startswith("gateway_dns")]


def test_the_cluster():
    found = samples(None, heartbeat())
    assert found["gateway_heartbeat_node_alive", "witness"] == 0
    assert found["gateway_heartbeat_node_joined", "gw2"] == 1
    assert ("gateway_heartbeat_node_joined", "witness") not in found
    assert found["gateway_heartbeat_node_same_settings", "gw2"] == 0
    assert found["gateway_heartbeat_link_up", "gw2", "udp"] == 1
    assert found["gateway_heartbeat_link_loss_ratio", "gw2", "udp"] == 0.01
    assert found["gateway_heartbeat_link_delay_seconds", "gw2", "udp"] == 0.0002
    assert found["gateway_heartbeat_owner", "192.0.2.10"] == 1
    assert found["gateway_heartbeat_owner", "192.0.2.11"] == 0
    assert found["gateway_heartbeat_address_owned", "192.0.2.11"] == 0
    assert found["gateway_heartbeat_address_owner_info", "192.0.2.10", "gw1"] == 1
    assert found["gateway_heartbeat_address_state_info", "192.0.2.11", "backup"] == 1
    assert found["gateway_heartbeat_takeovers_total", "192.0.2.10"] == 1
    assert found["gateway_heartbeat_releases_total", "192.0.2.10"] == 0
    assert found["gateway_heartbeat_contests_total", "192.0.2.10"] == 2
    assert found["gateway_heartbeat_refused_beats_total", "bad: signature"] == 5
    assert found["gateway_heartbeat_program_failures_total", "fence"] == 1
    assert found["gateway_heartbeat_health_believed",] == 100
    assert found["gateway_heartbeat_health_falls_total",] == 2
    assert found["gateway_heartbeat_damping_seconds",] == 2.0
    assert found["gateway_heartbeat_may_split",] == 0
    assert found["gateway_heartbeat_lease_in_kernel",] == 1


def test_a_drained_or_silent_node_is_not_ready_or_not_healthy():
    found = samples(control(cluster=True), heartbeat(admin_state="drain"))
    assert (found["gateway_healthy",], found["gateway_ready",]) == (1, 0)
    assert found["gateway_heartbeat_up",] == 1
    silent = samples(control(cluster=True), None)
    assert silent["gateway_heartbeat_up",] == silent["gateway_healthy",] == 0


def test_every_metric_is_documented_and_no_other():
    server = replace(SERVER, agent=CHECK, sessions=1)
    families = list(metrics.families(control(server, cluster=True), heartbeat()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert [*family.samples], f"{family.name} is not seen by this test"
    documented = re.findall(r"^\| `(gateway_\w+)", DOCS.read_text().partition("\n## How requests end")[0], re.MULTILINE)
    assert documented == names
