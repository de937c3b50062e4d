"""The systemd units in conf/, as systemd itself reads them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loadagent.report import decode
from tests.support.backend_server import ROOT
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

CONF = Path(__file__).parents[1] / "conf"


pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="left out: there is no systemd-analyze (systemd)"
)
EXPOSURE = [
    ("gateway", None, 2.0),
    ("gateway", "gateway-root.conf", 2.3),  # is root, becomes another user and ends its processes
    ("gateway", "gateway-cluster.conf", 2.1),  # changes addresses, sends frames, loads the lease into the kernel
    ("loadagent", None, 2.0),
]


@pytest.mark.parametrize(
    "unit, addition",
    [
        ("gateway", None),
        ("gateway", "gateway-root.conf"),
        ("gateway", "gateway-cluster.conf"),
        ("loadagent", None),
    ],
)
def test_systemd_finds_nothing_amiss(tmp_path: Path, unit: str, addition: str | None) -> None:
    text = (CONF / f"{unit}.service").read_text()
    here = text.replace(f"/usr/local/bin/{unit}", "/bin/true")  # where it is to be installed
    assert here != text
    (tmp_path / f"{unit}.service").write_text(here)
    if addition is not None:
        (tmp_path / f"{unit}.service.d").mkdir()
        shutil.copy(CONF / addition, tmp_path / f"{unit}.service.d" / "cluster.conf")
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / f"{unit}.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, ""), "an unknown key is a line, not a failure"


def whole(unit: str, addition: str | None) -> str:
    """A unit with an addition, as one file."""
    text = (CONF / f"{unit}.service").read_text()
    if addition is not None:
        more = (CONF / addition).read_text()
        text = text.replace("[Install]", f"{more[more.index('[Service]') :]}\n[Install]")
    return text


@pytest.mark.parametrize("unit, addition, most", EXPOSURE)
def test_exposure(tmp_path: Path, unit: str, addition: str | None, most: float) -> None:
    (tmp_path / f"{unit}.service").write_text(whole(unit, addition))
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / f"{unit}.service")]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
    found = re.search(r"exposure level for .*: ([0-9.]+) ", said)
    assert found is not None, said
    assert float(found.group(1)) <= most, said


def bounded(addition: str | None) -> tuple[str, ...]:
    """A command that runs another one with the capabilities that the unit leaves root."""
    if os.geteuid() != 0:
        return ()
    kept = re.findall(
        r"CAP_(\w+)", " ".join(re.findall(r"^CapabilityBoundingSet=(.*)$", whole("gateway", addition), re.MULTILINE))
    )
    return ("setpriv", "--bounding-set", ",".join(["-all", *(f"+{name.lower()}" for name in kept)]))


@pytest.mark.parametrize("addition", [None, "gateway-root.conf"])
def test_the_gateway_works_under_the_filter_of_its_unit(start_servers, tmp_path, monkeypatch, addition):
    (tmp_path / "unit").write_text(whole("gateway", addition))
    limited = (sys.executable, "-m", "tests.support.unit_limits", str(tmp_path / "unit"))
    monkeypatch.setattr(GatewayProcess, "command", (*bounded(addition), *limited, *GatewayProcess.command))
    account = {} if addition else {"user": "root"}  # as in the unit: it starts as the account that it works as
    description = site(start_servers("app1")) | account
    with GatewayProcess(tmp_path, description) as gateway:
        gateway.wait_for_log("control works by version")
        with RawClient(gateway.port) as client:
            assert client.get().status == 200
        gateway.reload(description | {"drain": "1s"}, "reloaded: version 2")
        pid = gateway.upgrade()
        assert gateway.wait() == 0
        with RawClient(gateway.port) as client:
            assert client.get().status == 200
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not psutil.pid_exists(pid), "the next gateway to end")


def test_the_load_agent_works_under_the_filter_of_its_unit(tmp_path):
    key = b"0123456789abcdef"
    (tmp_path / "agent.key").touch(mode=0o600)
    (tmp_path / "agent.key").write_bytes(key)
    (tmp_path / "unit").write_text(whole("loadagent", None))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
        gateway.bind(("127.0.0.1", 0))
        gateway.settimeout(20.0)
        program = [sys.executable, "-c", "from loadagent.cli import main; main()", "run"]
        options = ["--server", "app1", "--gateways", f"127.0.0.1:{gateway.getsockname()[1]}", "--key-file"]
        limits = [sys.executable, "-m", "tests.support.unit_limits", str(tmp_path / "unit")]
        with subprocess.Popen([*limits, *program, *options, str(tmp_path / "agent.key")], cwd=ROOT) as agent:
            try:
                report = decode(gateway.recv(2000), key)
                about = dict(
                    line.split(":\t", 1) for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines()
                )
                assert (about["NoNewPrivs"], Path(f"/proc/{agent.pid}/mem").stat().st_uid) == ("1", 0)
            finally:
                agent.send_signal(signal.SIGTERM)
                agent.wait(15)
    assert report.metrics.keys() == {"cpu", "run_queue", "memory"}
    assert agent.returncode == 0
