"""The probes: whether all processes work, and whether the gateway should get requests."""

from dataclasses import replace

import pytest

from gateway.admin import probes
from gateway.reports import GatewayReport, HeartbeatReport, WorkerReport
from tests.admin.reports import SERVER, TREE, control, heartbeat

STUCK = (WorkerReport(number=0, silent=0.1), WorkerReport(number=1, silent=9.0))
DOWN = replace(SERVER, state="down")


def healthy(report: GatewayReport, other: HeartbeatReport | None = None) -> str:
    return probes.healthy(report, other)


def ready(report: GatewayReport, other: HeartbeatReport | None = None) -> str:
    return probes.ready(report, report, other)


def in_state(state: str) -> GatewayReport:
    changes = {"workers": STUCK} if state == "taking over" else {}
    return control(tree=replace(TREE, state=state), **changes)


def test_a_gateway_without_faults_is_healthy_and_ready():
    assert healthy(control()) == ready(control()) == ""
    assert healthy(control(cluster=True), heartbeat()) == ready(control(), heartbeat()) == ""


def test_a_stuck_worker_is_reported():
    report = control(workers=STUCK)
    assert healthy(report) == "1 of 2 workers do not respond"
    assert ready(report) == "1 of 2 workers do not respond"


def test_a_silent_heartbeat_process_is_reported():
    assert healthy(control(cluster=True)) == "the heartbeat process does not respond"


@pytest.mark.parametrize("admin_state", ["standby", "drain"])
def test_a_node_in_standby_or_drain_is_healthy_but_not_ready(admin_state):
    assert ready(control(), heartbeat(admin_state=admin_state)) == f"the operator set {admin_state}"
    assert healthy(control(cluster=True), heartbeat(admin_state=admin_state)) == ""


def test_a_gateway_whose_servers_are_all_down_is_not_ready():
    assert ready(control(DOWN, DOWN)) == "every server of every backend is down"
    assert ready(control(DOWN, replace(SERVER, state="unknown"))) == ""
    assert ready(control(backends=())) == ""
    assert healthy(control(DOWN, DOWN)) == ""


@pytest.mark.parametrize(
    "state, amiss",
    [("starting", "the gateway is starting"), ("stopping", "the gateway is stopping"), ("taking over", "")],
)
def test_a_gateway_that_starts_or_stops_is_not_ready(state, amiss):
    assert ready(in_state(state)) == amiss
    assert healthy(in_state(state)) == ""
