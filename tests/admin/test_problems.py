"""What is wrong with a gateway, by its reports."""

from dataclasses import replace

import pytest

from gateway.admin import problems
from gateway.reports import (
    CheckReport,
    DnsNameReport,
    MemoryReport,
    RefusedFileReport,
    ReloadReport,
    SiteStateReport,
    WorkerReport,
)
from tests.admin import reports

WELL = replace(reports.TREE, last_reload=ReloadReport(at=1.0, accepted=True))
BAD_CHECK = CheckReport(result="CONNECT_REFUSED", good=False, seconds=0.1, detail="port 1")
CLUSTER = reports.heartbeat()
REFUSED = RefusedFileReport(file="/tls/a.crt", why="not a PEM certificate", since=1e9)


def found(now=5000.0, heartbeat=None, server=reports.SERVER, **changes):
    report = reports.control(server, **{"tree": WELL, "refused": {}, **changes})
    return [(one.what, one.why) for one in problems.found(report, heartbeat, now)]


def own_certificate(**changes):
    return replace(reports.ACME, certificates=(replace(reports.ACME.certificates[0], **changes),))


def test_a_gateway_that_is_well_has_no_problems():
    assert found() == []


@pytest.mark.parametrize(
    "changes, what, why",
    [
        ({"workers": (WorkerReport(number=0, silent=60.0),)}, "processes", "1 of 1 workers do not respond"),
        ({"tree": reports.TREE}, "site file", "the last reload was refused: site.yaml:1:1: a mistake"),
        ({"server": replace(reports.SERVER, state="down", check=BAD_CHECK)}, "app/app1", "down: CONNECT_REFUSED port 1"),
        ({"server": replace(reports.SERVER, check=BAD_CHECK)}, "app/app1", "last check: CONNECT_REFUSED port 1"),
        ({"server": replace(reports.SERVER, ejection="ejected")}, "app/app1", "ejected because of its responses"),
        ({"server": replace(reports.SERVER, admin="drain")}, "app", "no server is available"),
        ({"now": 8_000_000_001.0}, "/tls/a.crt", "the certificate expired"),
        ({"tree": replace(WELL, certificates=replace(WELL.certificates, refused=(REFUSED,)))}, "/tls/a.crt", "not a PEM certificate"),
        ({"tree": replace(WELL, maps=replace(WELL.maps, refused={"plans": "no column"}))}, "map plans", "keeps its previous content: no column"),
        ({"memory": MemoryReport(used=0.99, of="the machine", limit=0.95, short=True)}, "memory", "short"),
        ({"site_states": {"syd": SiteStateReport(up=False, draining=False, load=None, capacity=None, evacuated=False, trust=1.0)}}, "site syd", "none of its"),
        ({"dns": replace(reports.DNS, names=(DnsNameReport(name="www", policy="load", shares={}, open=True),))}, "www", "all are answered"),
        ({"acme": own_certificate(failures=2, error="refused: no such host")}, "certificate of www.example.com", "the last order failed: refused: no such host"),
        ({"acme": own_certificate(not_after=None)}, "certificate of www.example.com", "there is none yet"),
        ({"heartbeat": CLUSTER}, "gw2", "the cluster section of this node differs"),
        ({"heartbeat": CLUSTER}, "witness", "this node of the cluster is not heard"),
        ({"heartbeat": replace(CLUSTER, addresses=(replace(CLUSTER.addresses[0], owner=None, reason="none fit"),))}, "192.0.2.10", "no node owns"),
    ],
)  # fmt: skip
def test_each_problem_is_named_with_its_reason(changes, what, why):
    assert any(name == what and why in reason for name, reason in found(**changes)), found(**changes)


def test_counters_that_grow_are_shown_for_a_while():
    recent = problems.Recent()
    report = reports.control()
    before = problems.counts(report, None)
    assert before["load report", "refused: bad signature"] == 3
    assert recent.see(0.0, before) == ()
    after = problems.counts(replace(report, refused={"load report": {"bad signature": 5, "unknown": 1}}), None)
    assert {one.what for one in recent.see(10.0, after)} == {"load report"}
    whys = [one.why.partition(", last")[0] for one in recent.see(20.0, after)]
    assert sorted(whys) == ["refused: bad signature: 2 times", "refused: unknown: 1 times"]
    assert recent.see(10.0 + problems.RECENT, after) == ()


def test_counters_concern_processes_servers_messages_and_the_cluster():
    counted = problems.counts(reports.control(), reports.heartbeat())
    assert counted["worker 0", "ended unexpectedly"] == 4
    assert counted["worker 0", "killed for an invalid message"] == 1
    assert counted["app/app1", "failed requests (no response, a broken one, or 5xx)"] == 2
    assert any(what == "cluster" for what, _ in counted)
    assert counted["access log", "lines that could not be written (the log says why)"] == 12
