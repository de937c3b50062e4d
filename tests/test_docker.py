"""What can be said of conf/docker/ without Docker: paths, addresses and commands fit together; the site file is valid."""

import re

import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from tests.support.backend_server import ROOT

DOCKER = ROOT / "conf" / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SITE = yaml.safe_load((DOCKER / "site.yaml").read_text())
DOCKERFILE = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text())
ADDRESSES = {name: one["networks"]["farm"]["ipv4_address"] for name, one in COMPOSE["services"].items()}


def steps(word: str) -> list[list[str]]:
    return [line.split()[1:] for line in DOCKERFILE.splitlines() if line.startswith(f"{word} ")]


def test_everything_that_the_image_copies_is_there():
    copied = {name for step in steps("COPY") if not step[0].startswith("--") for name in step[:-1]}
    assert sorted(name for name in copied if not (ROOT / name).exists()) == []
    needed = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} - {"tests", "bench"}
    assert needed <= copied, "a package is left out"
    assert [step[0] for step in steps("FROM")] == ["debian:13-slim"] * 2


def test_what_starts_is_a_command():
    assert steps("ENTRYPOINT") == [['["gateway"]']]
    run = yaml.safe_load(" ".join(steps("CMD")[0]))
    assert run == ["run", "/etc/gateway/site.yaml"]
    assert CliRunner().invoke(main, [run[0], "--help"]).exit_code == 0
    witness = COMPOSE["services"]["witness"]["command"]
    described = CliRunner().invoke(main, ["witness", "--help"]).output
    assert [word for word in witness if word.startswith("--") and word not in described] == []
    assert f"{ADDRESSES['witness']}:694" in witness


def test_the_paths_of_the_composition_exist():
    for name, service in COMPOSE["services"].items():
        if "build" in service:
            context = (DOCKER / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).is_file(), name
        for volume in service["volumes"]:
            path = DOCKER / volume.split(":")[0]
            # The key is made by the first command of the file.
            assert path.is_file() or (
                path.name == "cluster.key" and ">cluster.key" in (DOCKER / "compose.yaml").read_text()
            )


def test_the_addresses_are_those_of_the_site():
    servers = {one["name"]: one["address"] for each in SITE["backends"].values() for one in each["servers"]}
    assert servers == {name: f"{ADDRESSES[name]}:8080" for name in servers}
    assert SITE["cluster"]["nodes"] == {name: ADDRESSES[name] for name in ("gw1", "gw2")}
    assert SITE["cluster"]["witness"] == ADDRESSES["witness"]
    shared = [one["address"].partition("/")[0] for one in SITE["cluster"]["addresses"]]
    assert not set(shared) & set(ADDRESSES.values())
    for name in ("web1", "web2"):
        service = COMPOSE["services"][name]
        assert service["command"][-1].startswith(f"http://{shared[1]}:8000/")
        assert service["command"][-2] == name


@pytest.mark.parametrize("node", ["gw1", "gw2"])
def test_the_site_file_is_valid_and_its_tests_pass(monkeypatch, node):
    monkeypatch.setenv("NODE", node)
    assert COMPOSE["services"][node]["environment"] == {"NODE": node}
    for command in ("check", "test"):
        done = CliRunner().invoke(main, [command, "--offline", str(DOCKER / "site.yaml")])
        assert done.exit_code == 0, done.output
