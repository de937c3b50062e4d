"""No version that the project names has a fault that is known of (.ci/advisories.json)."""

import json
import runpy
from pathlib import Path

import pytest

from tests.support.backend_server import ROOT

PROGRAM = runpy.run_path(str(ROOT / ".ci" / "audit.py"))
KNOWN = json.loads((ROOT / ".ci" / "advisories.json").read_text())


def test_no_pin_and_no_lower_bound_has_a_known_fault():
    # By the day of the list, so that a test of an old commit always has the same result: `make audit` looks at the clock.
    assert PROGRAM["compare"](PROGRAM["named"](), KNOWN, KNOWN["date"]) == []


def test_every_kind_of_version_is_looked_at():
    places: dict[str, set[str]] = {}
    for where, package, _ in PROGRAM["named"]():
        places.setdefault(package, set()).add(where)
    assert places["aiohttp"] == {"pyproject.toml", "constraints.txt", "run.txt", "test.txt"}
    assert places["setuptools"] == {"pyproject.toml", "constraints.txt", "build.txt", "run.txt", "test.txt"}


@pytest.mark.parametrize("version, faults", [("0.14.0", 1), ("0.9", 1), ("0.16", 0), ("0.16.0", 0), ("0.16.1", 0)])
def test_versions_before_the_fix_are_found(version, faults):
    assert len(PROGRAM["compare"]([("here", "h11", version)], KNOWN, KNOWN["date"])) == faults


def test_an_advisory_is_accepted_until_a_day():
    item = {"package": "H.11", "id": "CVE-2025-43859", "until": "2026-12-01", "why": "a test"}
    known = {**KNOWN, "accepted": [item]}
    assert PROGRAM["compare"]([("here", "h11", "0.14.0")], known, "2026-12-01") == [
        "here: h11 0.14.0 has CVE-2025-43859: take 0.16.0"
    ]
    item["package"] = "h11"
    assert PROGRAM["compare"]([("here", "h11", "0.14.0")], known, "2026-12-01") == []
    assert PROGRAM["compare"]([], known, "2026-12-02") == ["h11: CVE-2025-43859 was accepted until 2026-12-01"]


def test_the_lock_has_the_versions_of_the_constraints_each_with_hashes():
    pins = {package: version for where, package, version in PROGRAM["named"]() if where == "constraints.txt"}
    for name in ("build", "run", "test"):
        text = (ROOT / "lock" / f"{name}.txt").read_text()
        entries = [entry for entry in text.replace(" \\\n", " ").splitlines() if not entry.startswith("#")]
        assert entries
        for entry in entries:
            assert "--hash=sha256:" in entry, entry
        locked = {package: version for where, package, version in PROGRAM["named"]() if where == f"{name}.txt"}
        assert {package: version for package, version in locked.items() if pins.get(package) != version} == {}


def test_the_installation_checks_hashes():
    makefile = (Path(ROOT) / "Makefile").read_text()
    assert "--require-hashes" in makefile
    for name in ("build", "run", "test"):
        assert f"lock/{name}.txt" in makefile
