"""Each part of the benchmark once, with real programs and as little load as shows that it works."""

import json
import os
import sys
from dataclasses import replace

import pytest

from bench import breadth, calls, features, http2, idle, latency, reload, scaling, start
from bench.cases import CASES
from bench.farm import FarmFailed, Layout, farm
from bench.peers.all import PEERS
from bench.peers.floor import FLOOR
from bench.peers.gateway import GATEWAY
from bench.peers.nginx import NGINX
from bench.rounds import takes_part, turn
from tests.support.programs import needs, needs_header, run

pytestmark = [
    needs("cc", "taskset"),
    needs_header("openssl/ssl.h", "libssl-dev"),
    pytest.mark.skipif("len(__import__('os').sched_getaffinity(0)) < 2", reason="needs two processors"),
]
BOTH = (GATEWAY, FLOOR)


def values(figures, metric):
    return {(figure.case, figure.proxy): figure.median for figure in figures if figure.metric == metric}


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_proxy_serves_every_kind_of_request(peer):
    if not peer.is_installed():
        pytest.skip(f"not installed: {peer.program}")
    with farm([peer], Layout(servers=2)) as running:
        for case in CASES:
            if takes_part(running.proxies[0], case):
                load = replace(case.load, connections=2, requests=10)
                assert turn(running, running.proxies[0], load).outcome.requests == 10
    assert any(letter.isdigit() for letter in peer.release()) is bool(peer.version)


def test_latencies_rise_with_the_percentile():
    with farm(BOTH, Layout(direct=True)) as running:
        found = latency.measure(running, 1, 0.4)
    p50, p99, p999 = (values(found, metric) for metric in ("p50", "p99", "p999"))
    assert {case for case, _ in p50} == {latency.name(case) for case in latency.ASKED}
    for key, middle in p50.items():
        assert 1.0 < middle <= p99[key] <= p999[key]


SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.23    0.012345           2      6012           sendto
 38.77    0.007820           1      6042        21 recvfrom
  0.00    0.000000           0        51           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.020165           1     12105        21 total
"""


def test_summary_of_strace_is_read():
    found = calls.parsed(SUMMARY)
    assert (found["sendto"], found["recvfrom"], found["epoll_wait"]) == (6012, 6042, 51)


@needs("strace")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may trace what it did not start")
def test_floor_makes_four_data_system_calls():
    with farm([FLOOR], Layout()) as running:
        assert values(calls.measure(running), "calls")["130 B", "floor"] == pytest.approx(4.0, abs=0.05)


def test_idle_connections_take_memory_and_let_others_be_served(monkeypatch):
    monkeypatch.setattr(idle, "COUNTS", (300,))
    monkeypatch.setattr(idle, "WARM", 30)
    found = values(idle.measure_memory(BOTH), "memory")
    assert set(found) == {("300 idle", "gateway"), ("300 idle TLS", "gateway")}
    assert found["300 idle", "gateway"] < found["300 idle TLS", "gateway"]
    beside = values(idle.measure_beside(BOTH, 1, 0.1), "cpu")
    assert set(beside) == {("130 B beside 300 idle", "gateway"), ("130 B beside 300 idle", "floor")}


def test_features_are_on_and_cost_something(monkeypatch):
    monkeypatch.setattr(features, "ROUTES", 20)
    found = values(features.measure(1, 0.2), "rate")
    assert set(found) == {(features.PLAIN, "gateway"), (features.ALL_ON, "gateway")}


@needs("h2load", "nginx")
def test_http2_and_tls_to_servers_are_measured_beside_a_peer():
    found = values(http2.measure((GATEWAY, NGINX), 1, 0.1, 0.01), "cpu")
    cases = (http2.SMALL_ANSWER, http2.LARGE_ANSWER, http2.TO_SERVERS)
    assert set(found) == {(case, proxy) for case in cases for proxy in ("gateway", "nginx")}


def test_scaling_compares_one_worker_with_two():
    found = values(scaling.measure(BOTH, 1, 0.2), "scaling")
    assert set(found) == {(scaling.name(2), "gateway"), (scaling.name(2), "floor")}
    assert all(gain > 0.0 for gain in found.values())


def test_breadth_goes_over_connections_and_servers(monkeypatch):
    monkeypatch.setattr(breadth, "CONNECTIONS", (5, 50))
    monkeypatch.setattr(breadth, "SERVERS", (1, 300))
    monkeypatch.setattr(breadth, "RATE", 500)
    found = values(breadth.measure_connections(BOTH, 1, 0.2), "cpu")
    assert {case for case, _ in found} == {breadth.connections_name(5), breadth.connections_name(50)}
    found = values(breadth.measure_servers(BOTH, 1, 0.1), "reuse")
    names = {breadth.servers_name(1), breadth.servers_name(300)}
    assert set(found) == {(name, proxy) for name in names for proxy in ("gateway", "floor")}


def test_start_is_measured_to_the_first_answer():
    found = values(start.measure(BOTH, 1), "start")
    assert set(found) == {(start.CASE, "gateway")}
    assert 10.0 < found[start.CASE, "gateway"] < 20_000.0


def test_reload_is_measured_and_a_refused_one_is_said(monkeypatch):
    monkeypatch.setattr(reload, "ROUTES", 50)
    found = reload.measure(1)
    assert 1.0 < values(found, "reload")[reload.CASE, "gateway"] < 10_000.0
    with farm([GATEWAY], Layout(routes=10)) as running:
        proxy = running.proxies[0]
        site = proxy.setup.directory / "gateway.yaml"
        site.write_text(site.read_text().replace("routes:", "routs:"))
        with pytest.raises(FarmFailed, match="did you mean"):
            reload.reload(proxy)


def test_whole_run_prints_tables_and_keeps_results(tmp_path):
    options = ("--parts", "cases,start", "--cases", "10 KB", "--rounds", "2", "--seconds", "0.1")
    shown = run(sys.executable, "-m", "bench.run", *options, "--peers", "floor", "--keep", str(tmp_path), seconds=90.0)
    assert "10 KB" in shown
    result = json.loads((tmp_path / "bench.json").read_text())
    cpu = [figure for figure in result["figures"] if figure["metric"] == "cpu"]
    assert {(figure["case"], figure["proxy"]) for figure in cpu} == {
        *{("10 KB", "gateway"), ("10 KB", "floor"), ("10 KB", "direct")},
    }
    assert all(figure["low"] <= figure["median"] <= figure["high"] for figure in cpu)
    assert result["machine"]["cores"] >= 2
    assert "10 KB: cpu / floor" in {goal["goal"] for goal in result["goals"]}
    (line,) = (tmp_path / "history.jsonl").read_text().splitlines()
    assert set(json.loads(line)["goals"]) == {"10 KB: cpu / floor", "start-up: start"}
    assert (tmp_path / "bench.svg").read_text().count("<path") > 5


def test_unknown_part_is_said():
    with pytest.raises(Exception, match="exit status 2"):
        run(sys.executable, "-m", "bench.run", "--parts", "nonsense", "--quick")
