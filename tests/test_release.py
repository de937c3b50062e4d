"""What is released: the same bytes twice, with everything that it takes to build it, and a list of what is in it."""

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.support.backend_server import ROOT

RELEASE = runpy.run_path(str(ROOT / ".ci" / "release.py"))
SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


pytestmark = pytest.mark.timeout(300)  # compilers on a machine that has other things to do


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def copy(place, *names):
    """Those files of the tree that git knows and whose names begin so, in a new directory."""
    listed = subprocess.run(["git", "ls-files", *names], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
    return place


@pytest.fixture(scope="module")
def sdists(tmp_path_factory):
    """Two sdists, made in different places, at different times, under different umasks."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("left out: this is not a clone of the repository")
    made = []
    for place, mask in (("here", 0o022), ("in-quite-another-place", 0o077)):
        tree = copy(tmp_path_factory.mktemp(place) / "tree")
        old = os.umask(mask)
        try:
            for path in tree.rglob("*"):
                os.utime(path, (time.time() - mask, time.time() - mask))
            subprocess.run([sys.executable, "-c", SDIST, str(tree.parent)], cwd=tree, check=True, capture_output=True)
        finally:
            os.umask(old)
        (path,) = tree.parent.glob("*.tar.gz")
        RELEASE["level"](path, 1_700_000_000)
        made.append(path)
    return made


def test_an_sdist_is_the_same_wherever_it_is_made(sdists):
    one, other = sdists
    assert digest(one) == digest(other)


def test_an_sdist_has_all_that_it_takes_and_nothing_that_was_made(sdists):
    with tarfile.open(sdists[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        assert {(item.uid, item.gid, item.mtime) for item in archive} == {(0, 0, 1_700_000_000)}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    wanted = {name for name in listed if name.startswith(("gateway/", "loadagent/", "qos/", "conf/", "lock/"))}
    assert {name for name in wanted if (ROOT / name).exists()} <= names
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md", "Makefile"} <= names
    assert [name for name in names if name.endswith((".so", ".pyc")) or re.match(r"(gateway|qos)/.*\.c$", name)] == []


def test_a_module_is_the_same_wherever_it_is_compiled(tmp_path):
    found = []
    for place in ("a", "in-quite-another-place"):
        tree = copy(tmp_path / place, "setup.py", "pyproject.toml", "README.md", "LICENSE", "gateway/__init__.py")
        for suffix in (".pyx", ".pxd", ".pyi"):
            shutil.copy(ROOT / "gateway" / f"outcome{suffix}", tree / "gateway")
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        environment = {key: value for key, value in os.environ.items() if key != "GATEWAY_BUILD"}
        subprocess.run(command, cwd=tree, check=True, capture_output=True, env=environment)
        (module,) = (tree / "gateway").glob("outcome.*.so")
        found.append(digest(module))
        assert str(tmp_path).encode() not in module.read_bytes()
    assert found[0] == found[1]


def test_the_contents_of_the_release():
    document = runpy.run_path(str(ROOT / ".ci" / "sbom.py"))["document"]
    found = document()
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["serialNumber"])
    assert found["metadata"]["component"]["name"] == "eddie-gateway"
    references = {item["bom-ref"] for item in found["components"]} | {found["metadata"]["component"]["bom-ref"]}
    assert len(references) == len(found["components"]) + 1
    assert {item["ref"] for item in found["dependencies"]} == references
    assert {other for item in found["dependencies"] for other in item["dependsOn"]} <= references
    assert json.dumps(found) == json.dumps(document())
    project = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("]")[0]
    direct = set(re.findall(r'"([a-z0-9-]+)>=', project.lower()))
    listed = {item["name"]: item for item in found["components"]}
    assert direct <= listed.keys()
    assert not {"pytest", "hypothesis", "matplotlib"} & listed.keys()
    locked = (ROOT / "lock" / "run.txt").read_text()
    for item in listed.values():
        assert set(item) >= {"type", "purl", "version", "hashes"}, item
        if item["purl"].startswith("pkg:pypi/"):
            assert all(each["content"] in locked for each in item["hashes"])
    uplot = (ROOT / "gateway" / "admin" / "page" / "uplot.js").read_bytes()
    assert listed["uplot"]["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(uplot).hexdigest()}]


def test_the_release_says_how_to_report_a_vulnerability():
    text = (Path(ROOT) / "SECURITY.md").read_text()
    assert "private vulnerability reporting" in text
    for place in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / place).exists()
