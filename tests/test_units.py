"""The systemd units in conf/, as systemd itself reads them."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadagent.report import decode
from tests.support.backend_server import ROOT
from tests.support.gateway_process import GatewayProcess, site
from tests.support.open_to_others import opened
from tests.support.raw import RawClient
from tests.support.waiting import eventually

CONF = Path(__file__).parents[1] / "conf"
ACCOUNT = 64_321
"""A user that this machine does not know, in the place of `gateway` and `gateway-keys`."""
NOBODY = pwd.getpwnam("nobody").pw_uid


pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="left out: there is no systemd-analyze (systemd)"
)
EXPOSURE = [
    ("gateway", None, 2.0),
    ("gateway", "gateway-keys.conf", 2.0),
    ("gateway", "gateway-cluster.conf", 2.1),  # changes addresses, sends frames, loads the lease into the kernel
    ("loadagent", None, 2.0),
]


@pytest.mark.parametrize(
    "unit, addition",
    [
        ("gateway", None),
        ("gateway", "gateway-keys.conf"),
        ("gateway", "gateway-cluster.conf"),
        ("loadagent", None),
    ],
)
def test_systemd_accepts_the_units_without_a_warning(tmp_path: Path, unit: str, addition: str | None) -> None:
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


def ambient(addition: str | None) -> tuple[str, ...]:
    """A command that runs another one as an account with the capabilities that the unit gives it."""
    names = re.findall(r"^AmbientCapabilities=(.*)$", whole("gateway", addition), re.MULTILINE)
    kept = ",".join(f"+{name.lower()}" for name in re.findall(r"CAP_(\w+)", " ".join(names)))
    account = ("setpriv", "--reuid", str(ACCOUNT), "--regid", str(ACCOUNT), "--clear-groups", "--no-new-privs")
    return (
        *account,
        *(word for kind in ("inh-caps", "ambient-caps", "bounding-set") for word in (f"--{kind}", f"-all,{kept}")),
    )


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the account that the unit starts the gateway as."""
    with tempfile.TemporaryDirectory() as directory:
        if os.geteuid() == 0:
            os.chown(directory, ACCOUNT, ACCOUNT)
        yield Path(directory)


def uid(pid: int) -> int:
    """The user of a process."""
    return psutil.Process(pid).uids().effective


@pytest.mark.parametrize("addition", [None, "gateway-keys.conf"])
def test_the_gateway_works_under_the_limits_of_its_unit(
    start_servers: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addition: str | None
) -> None:
    if addition is not None and os.geteuid() != 0:
        pytest.skip("left out: only root can start the gateway as another account")
    (place / "unit").write_text(whole("gateway", addition))
    start = (*opened(tmp_path), *ambient(addition)) if os.geteuid() == 0 else ()
    limited = (sys.executable, "-m", "tests.support.unit_limits", str(place / "unit"))
    monkeypatch.setattr(GatewayProcess, "command", (*start, *limited, *GatewayProcess.command))
    description = site(start_servers("app1")) | {
        "user": "nobody" if addition else "root",
        "state": str(place / "state"),
    }
    with GatewayProcess(place, description) as gateway:
        gateway.wait_for_log("control uses load")
        with RawClient(gateway.port) as client:
            assert client.get().status == 200
        if os.geteuid() == 0:
            children = {uid(pid) for pid in (*gateway.workers().values(), gateway.control() or 0)}
            assert (uid(gateway.process.pid), children) == (ACCOUNT, {NOBODY if addition else ACCOUNT})
        gateway.reload(description | {"drain": "1s"}, "reloaded: ")
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
