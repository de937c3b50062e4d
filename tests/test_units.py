"""The systemd units in conf/, as systemd itself reads them."""

import shutil
import subprocess
from pathlib import Path

import pytest

CONF = Path(__file__).parents[1] / "conf"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="left out: there is no systemd-analyze (systemd)")
@pytest.mark.parametrize("unit, addition", [("gateway", "gateway-cluster.conf"), ("loadagent", None)])
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
