"""What is wrong with a gateway, by its reports."""

from dataclasses import replace

import pytest

from gateway.admin import problems
from gateway.reports import CheckReport, DnsNameReport, MemoryReport, ReloadReport, SiteStateReport, WorkerReport
from tests.admin import reports

WELL = replace(
    reports.TREE,
    last_reload=ReloadReport(at=1.0, accepted=True),
    deaths={"worker 0": 0},
)
BAD_CHECK = CheckReport(result="CONNECT_REFUSED", good=False, seconds=0.1, detail="port 1")
CLUSTER = reports.heartbeat()


def found(now=5000.0, heartbeat=None, server=reports.SERVER, **changes):
    report = reports.control(server, **{"tree": WELL, "refused": {}, **changes})
    return [(one.what, one.why) for one in problems.found(report, heartbeat, now)]


def test_a_gateway_that_is_well_has_no_problems():
    assert found() == []


@pytest.mark.parametrize(
    "changes, what, why",
    [
        ({"workers": (WorkerReport(number=0, silent=60.0),)}, "processes", "1 of 1 workers do not respond"),
        ({"tree": replace(WELL, deaths={"control": 2})}, "control", "ended unexpectedly 2 times"),
        ({"tree": reports.TREE}, "site file", "the last reload was refused: site.yaml:1:1: a mistake"),
        ({"tree": replace(WELL, upgrades_failed=1)}, "upgrade", "1 upgrades failed"),
        ({"server": replace(reports.SERVER, state="down", check=BAD_CHECK)}, "app/app1", "down: CONNECT_REFUSED port 1"),
        ({"server": replace(reports.SERVER, check=BAD_CHECK)}, "app/app1", "last check: CONNECT_REFUSED port 1"),
        ({"server": replace(reports.SERVER, ejection="ejected")}, "app/app1", "ejected because of its responses"),
        ({"server": replace(reports.SERVER, admin="drain")}, "app", "no server is available"),
        ({"now": 8_000_000_001.0}, "/tls/a.crt", "the certificate expired"),
        ({"memory": MemoryReport(used=0.99, of="the machine", limit=0.95, short=True)}, "memory", "short"),
        ({"refused": {"load report": {"bad signature": 3}}}, "load report", "3 refused: bad signature"),
        ({"site_states": {"syd": SiteStateReport(up=False, draining=False, load=None, capacity=None, evacuated=False)}}, "site syd", "none of its"),
        ({"dns": replace(reports.DNS, names=(DnsNameReport(name="www", policy="load", shares={}, open=True),))}, "www", "all are answered"),
        ({"heartbeat": CLUSTER}, "gw2", "the cluster section of this node differs"),
        ({"heartbeat": CLUSTER}, "witness", "this node of the cluster is not heard"),
        ({"heartbeat": replace(CLUSTER, addresses=(replace(CLUSTER.addresses[0], owner=None, reason="none fit"),))}, "192.0.2.10", "no node owns"),
    ],
)  # fmt: skip
def test_each_problem_is_named_with_its_reason(changes, what, why):
    assert any(name == what and why in reason for name, reason in found(**changes)), found(**changes)
