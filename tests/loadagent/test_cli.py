import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadagent.cli import main
from loadagent.config import AgentConfig, Metrics
from loadagent.report import decode

ROOT = Path(__file__).parents[2]


def test_sample_prints_a_table() -> None:
    result = CliRunner().invoke(
        main,
        [
            "sample",
            "--server",
            "app1",
            "--interval",
            "100ms",
            "--command-run",
            "echo 5",
            "--command-full",
            "4",
        ],
    )
    assert result.exit_code == 0
    assert "app1: load 125%" in result.output
    assert "command" in result.output
    assert "cpu" not in result.output


def test_sample_prints_json() -> None:
    result = CliRunner().invoke(
        main,
        [
            "sample",
            "--json",
            "--interval",
            "100ms",
            "--memory",
            "1",
            "--network-interface",
            "none9",
            "--network-bits",
            "1Gbit",
        ],
    )
    document = json.loads(result.stdout)
    assert 0.0 < document["score"] < 1.0
    assert document["metrics"]["network"] == {"value": None, "limit": 1e9, "share": None}


def test_errors_are_printed_with_their_place_and_fail(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("sever: a\n")
    for command in ("run", "sample"):
        result = CliRunner().invoke(main, [command, str(path)])
        assert result.exit_code == 1
        assert result.stderr == f"{path}:1:1: unknown key sever (did you mean server?)\n"


def test_an_agent_without_a_purpose_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["run"])
    assert result.exit_code == 2
    assert "nothing to do" in result.stderr


def test_every_key_is_an_option() -> None:
    text = CliRunner().invoke(main, ["run", "--help"]).output
    keys = set(AgentConfig.model_fields) - {"metrics"} | {"cpu", "run_queue", "memory"}
    for name in ("network", "command", "url"):
        (model,) = (kind for kind in Metrics.model_fields[name].annotation.__args__ if kind is not type(None))  # type: ignore[union-attr]
        keys |= {f"{name}_{key}" for key in model.model_fields}
    for key in keys:
        assert f"--{key.replace('_', '-')} " in text


@pytest.mark.slow
def test_run_reports_until_terminated(tmp_path: Path) -> None:
    key = tmp_path / "agent.key"
    key.write_bytes(b"0123456789abcdef")
    key.chmod(0o600)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
        gateway.bind(("127.0.0.1", 0))
        gateway.settimeout(15.0)
        address = f"127.0.0.1:{gateway.getsockname()[1]}"
        (tmp_path / "agent.yaml").write_text(
            f"{{server: app1, gateways: '{address}', key_file: agent.key, interval: 100ms}}"
        )
        program = [sys.executable, "-W", "error", "-c", "from loadagent.cli import main; main()"]
        command = [*program, "run", str(tmp_path / "agent.yaml")]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as agent:
            try:
                report = decode(gateway.recv(2000), b"0123456789abcdef")
            finally:
                agent.send_signal(signal.SIGTERM)
                _, errors = agent.communicate(timeout=15)
    assert report.server == "app1"
    assert report.metrics.keys() == {"cpu", "run_queue", "memory"}
    assert (agent.returncode, errors) == (0, "")
