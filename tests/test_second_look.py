"""CI's second look forgives a test that a busy machine failed, and nothing else (.ci/second_look.py)."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

from tests.support.deaths import Death, verdict

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / ".ci" / "second_look.py"
COUNTED = """
from pathlib import Path

def test_it():
    runs = Path(__file__).with_name("runs")
    runs.write_text(runs.read_text() + "." if runs.exists() else ".")
    assert len(runs.read_text()) not in {fails}
"""


def look(where: Path, fails: set[int]) -> "subprocess.CompletedProcess[str]":
    """Run a test that fails in the runs of these numbers (the first is 1), then look at it again."""
    (where / "test_it.py").write_text(COUNTED.format(fails=fails))
    report = where / "report.xml"
    pytest = [sys.executable, "-m", "pytest", "-q", f"--rootdir={where}", "-o", "addopts="]
    first = subprocess.run([*pytest, f"--junitxml={report}"], cwd=where, check=False, capture_output=True)
    assert first.returncode == (1 if 1 in fails else 0)
    return subprocess.run(
        [sys.executable, PROGRAM, where, report, *pytest], cwd=where, check=False, capture_output=True, text=True
    )


def test_a_test_that_passes_three_times_alone_is_named_as_unsteady(tmp_path: Path) -> None:
    done = look(tmp_path, {1})
    assert done.returncode == 0, done.stdout
    assert "UNSTEADY: failed once in the whole run, passed 3 times alone: test_it.py::test_it" in done.stdout
    assert len((tmp_path / "runs").read_text()) == 4


def test_one_more_failure_is_final(tmp_path: Path) -> None:
    for again in (2, 3, 4):
        where = tmp_path / str(again)
        where.mkdir()
        done = look(where, {1, again})
        assert done.returncode == 1, done.stdout
        assert "UNSTEADY" not in done.stdout


def test_deaths_many_failures_and_other_faults_are_final(tmp_path: Path) -> None:
    refusal = runpy.run_path(str(PROGRAM))["refusal"]
    report = tmp_path / "report.xml"
    assert "there is no report" in refusal(["a"], report)
    report.write_text("<testsuite/>")
    assert refusal(["a", "b", "c"], report) == ""
    assert "4 tests failed" in refusal(["a", "b", "c", "d"], report)
    assert refusal([], report) == "it was not a test that failed"
    report.write_text(verdict([Death("worker 0 (pid 7) was killed by SIGSEGV", 7)], "a log"))
    assert refusal(["a"], report) == "a process of the gateway died"


def test_the_failures_are_those_that_pytest_keeps(tmp_path: Path) -> None:
    failed = runpy.run_path(str(PROGRAM))["failed"]
    assert failed(tmp_path) == []
    cache = tmp_path / ".pytest_cache" / "v" / "cache"
    cache.mkdir(parents=True)
    (cache / "lastfailed").write_text(json.dumps({"b": True, "a": True}))
    assert failed(tmp_path) == ["a", "b"]
