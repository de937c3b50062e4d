"""The state of a server, said by commands to an agent that runs."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadagent.admin_state import AdminState, write
from loadagent.cli import main
from loadagent.report import State
from tests.support.waiting import answers, eventually, free_port

ROOT = Path(__file__).parents[2]


def test_a_word_outweighs_the_agent_file_until_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml.state"
    admin_state = AdminState(path, State.MAINTENANCE)
    assert admin_state.state is State.MAINTENANCE
    for state in State:
        write(path, state)
        assert admin_state.state is state
    path.unlink()
    assert admin_state.state is State.MAINTENANCE
    assert AdminState(None, State.READY).state is State.READY


@pytest.mark.parametrize("content", [b"", b"drained\n", b"\xff\xfe", b"drain" * 1000, b"drain ready"])
def test_nonsense_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state"
    path.write_bytes(content)
    assert AdminState(path, State.READY).state is State.READY


@pytest.mark.slow
def test_a_running_agent_obeys(tmp_path: Path) -> None:
    port = free_port()
    path = tmp_path / "agent.yaml"
    path.write_text(f'{{server: app1, listen: "127.0.0.1:{port}", interval: 100ms, metrics: {{memory: 1.0}}}}')

    def line() -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(100).decode()

    command = [sys.executable, "-c", "from loadagent.cli import main; main()", "run", str(path)]
    with subprocess.Popen(command, cwd=ROOT) as agent:
        try:
            eventually(lambda: answers("127.0.0.1", port), "the agent to listen", 20.0)
            assert line().startswith("up ready ")
            for word, said in (("drain", "up drain "), ("maintenance", "up maint "), ("ready", "up ready ")):
                result = CliRunner().invoke(main, [word, str(path)])
                assert (result.exit_code, result.output) == (
                    0,
                    f"app1: {word} (takes effect with the agent's next report)\n",
                )
                assert line().startswith(said)
        finally:
            agent.terminate()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("{server: app1, state_file: missing/state}")
    result = CliRunner().invoke(main, ["drain", str(path)])
    assert result.exit_code == 1
    assert f"cannot write {tmp_path / 'missing/state'}: No such file or directory" in result.output
