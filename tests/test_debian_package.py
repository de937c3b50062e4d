"""The parts of the Debian package that need no build: `make deb-check` installs the whole of it."""

import re
import runpy
import subprocess
import sys

import pytest

from tests.support.backend_server import ROOT

PROGRAM = runpy.run_path(str(ROOT / ".ci" / "debian_package.py"))


def test_it_has_what_runs_and_nothing_that_only_builds():
    locked = set(re.findall(r"^([a-z0-9-]+)==", PROGRAM["locked"](), re.MULTILINE))
    whole = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "lock" / "run.txt").read_text(), re.MULTILINE))
    assert whole - locked == {"cython", "setuptools"}
    assert "--hash=sha256:" in PROGRAM["locked"]()


@pytest.fixture
def package(tmp_path):
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "file").write_text("x")
    PROGRAM["control"](tmp_path, "amd64")
    return tmp_path / "DEBIAN"


def test_it_depends_on_the_python_that_it_is_made_for(package):
    control = (package / "control").read_text()
    low = f"{sys.version_info.major}.{sys.version_info.minor}"
    high = f"{sys.version_info.major}.{sys.version_info.minor + 1}"
    assert f"python3 (>= {low}), python3 (<< {high})" in control
    (version,) = re.findall("^Version: (.+)$", control, re.MULTILINE)
    assert f'\n__version__ = "{version}"\n' in (ROOT / "gateway/__init__.py").read_text()
    assert (package / "md5sums").read_text() == "9dd4e461268c8034f5c8564e155c67a6  usr/file\n"


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_its_scripts_are_valid(package, name):
    assert (package / name).stat().st_mode & 0o777 == 0o755
    subprocess.run(["/bin/sh", "-n", str(package / name)], check=True)


def test_its_units_start_what_it_installs():
    for unit in ("gateway", "loadagent"):
        text = (ROOT / "conf" / f"{unit}.service").read_text()
        assert f"ExecStart=/usr/local/bin/{unit} " in text, "the package writes /usr/bin for this"
