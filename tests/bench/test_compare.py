import json
import sys

import pytest

from bench.browser import FIELDS
from bench.compare import Round, summarise
from tests.support.backend_server import ROOT
from tests.support.programs import needs, run


def rounds(*cpus):
    return [Round(cpu, cpu / 2, 1e6 / cpu) for cpu in cpus]


def test_medians_are_compared_with_the_better_peer_of_the_same_size():
    found = {
        ("gateway", 130): rounds(30.0, 18.0, 19.0),
        ("nginx", 130): rounds(20.0, 20.0, 99.0),
        ("haproxy", 130): rounds(25.0, 25.0, 1.0),
        ("gateway", 10_000): rounds(22.0),
        ("haproxy", 10_000): rounds(20.0),
    }
    rows = {(row.proxy, row.size): row for row in summarise(found)}
    first = rows["gateway", 130]
    assert (first.cpu, first.user, first.low, first.high, first.ratio) == (19.0, 9.5, 18.0, 30.0, 0.95)
    assert rows["haproxy", 130].ratio == 1.25
    assert rows["gateway", 10_000].ratio == 1.1


def test_no_ratio_without_a_peer():
    assert summarise({("floor", 130): rounds(12.0)})[0].ratio is None


def test_request_is_a_browsers():
    names = [field.partition(":")[0] for field in FIELDS]
    assert len(set(names)) == 12
    assert "Host" not in names


@needs("wrk", "cc", "taskset")
@pytest.mark.skipif("len(__import__('os').sched_getaffinity(0)) < 2", reason="needs two processors")
def test_whole_run_measures_and_keeps_a_result(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    kept = tmp_path / "result.json"
    options = ("--only", "floor", "--rounds", "1", "--seconds", "1", "--output", str(kept))
    table = run(sys.executable, "-m", "bench.compare", *options)
    (small, large) = json.loads(kept.read_text())["rows"]
    assert (small["size"], large["size"]) == (130, 10_000)
    assert 1.0 < small["cpu"] < 500.0
    assert small["user"] < small["cpu"]
    assert "floor" in table
