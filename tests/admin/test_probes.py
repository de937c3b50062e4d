import pytest

from gateway.admin.probes import healthy, ready
from tests.admin.reports import control, heartbeat

STUCK = [{"number": 0, "silent": 0.1}, {"number": 1, "silent": 9.0}]


def in_state(state):
    report = control(workers=STUCK if state == "taking over" else [{"number": 0, "silent": 0.1}])
    report["tree"]["state"] = state
    return report


def test_all_is_well():
    assert healthy(control(), None, cluster=False) == ready(control(), None) == ""
    assert healthy(control(), heartbeat(), cluster=True) == ready(control(), heartbeat()) == ""


def test_a_worker_that_is_stuck():
    report = control(workers=STUCK)
    assert healthy(report, None, cluster=False) == "1 of 2 workers do not respond"
    assert ready(report, None) == "1 of 2 workers do not respond"


def test_a_heartbeat_that_says_nothing():
    assert healthy(control(), None, cluster=True) == "the heartbeat process does not respond"


@pytest.mark.parametrize("admin_state", ["standby", "drain"])
def test_an_operator_wants_it_away(admin_state):
    assert ready(control(), heartbeat(admin_state=admin_state)) == f"the operator set {admin_state}"
    assert healthy(control(), heartbeat(admin_state=admin_state), cluster=True) == ""


def test_servers_that_are_all_down():
    down = {"state": "down"}
    assert ready(control(down, down), None) == "every server of every backend is down"
    assert ready(control(down, {"state": "unknown"}), None) == ""
    assert ready(control(backends=[]), None) == ""
    assert healthy(control(down, down), None, cluster=False) == ""


@pytest.mark.parametrize(
    "state, amiss",
    [("starting", "the gateway is starting"), ("stopping", "the gateway is stopping"), ("taking over", "")],
)
def test_beginning_and_end(state, amiss):
    assert ready(in_state(state), None) == amiss
    assert healthy(in_state(state), None, cluster=False) == ""
