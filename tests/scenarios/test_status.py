"""`gateway status`: the servers of a running gateway, as control and the workers know them."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from click.testing import CliRunner, Result

from gateway.cli import main
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
AGENT = (sys.executable, "-c", "from loadagent.cli import main; main()")


def status(directory: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["status", str(directory / "site.yaml"), *options])


def test_sessions_left_on_a_draining_server(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "agent.yaml"
    file.write_text(f'server: app1\nlisten: "127.0.0.1:{port}"\n')
    check = {"http": "/", "interval": "100ms"}
    description = {
        **site(
            start_servers("app1"),
            workers=2,
            affinity={"cookie": "SRV"},
            check=check,
            agent={"connect": port, "interval": "500ms"},
        ),
    }
    with ExitStack() as stack:
        agent = stack.enter_context(subprocess.Popen([*AGENT, "run", str(file)], stderr=subprocess.DEVNULL))
        stack.callback(agent.kill)
        gateway = start_gateway(description)
        for _ in range(7):
            with RawClient(gateway.port) as client:
                assert client.get("/who").status == 200
        subprocess.run([*AGENT, "drain", str(file)], check=True, capture_output=True, timeout=30)
        gateway.wait_for_log("its agent reports DRAIN")
        shown: dict[str, object] = {}

        def ready() -> bool:
            done = status(tmp_path, "--json")
            if done.exit_code:
                return False  # control has just started
            shown.update(json.loads(done.stdout)["backends"][0]["servers"][0])
            return shown["requests"] == 7 and shown["check"] is not None and shown["agent"] is not None

        eventually(ready, "everything to be known")
        assert (shown["name"], shown["state"], shown["admin"], shown["sessions"]) == ("app1", "up", "drain", 7)
        assert "up, drain" in (text := status(tmp_path).stdout)
        assert "7 left" in text
        assert 'gateway_server_sessions{backend="app",server="app1"} 7' in status(tmp_path, "--metrics").stdout
        gateway.kill_control()
        eventually(lambda: status(tmp_path).exit_code == 0, "the next control to answer")


def test_where_no_gateway_runs(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        'frontends: [{listen: "127.0.0.1:1"}]\nbackends: {app: {servers: ["127.0.0.1:2"]}}\nadmin: {sockets: run}\n'
    )
    done = status(tmp_path)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"no gateway runs with {tmp_path}/site.yaml")


def test_json_names_the_process_that_does_not_answer(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    gateway = start_gateway(site(start_servers("app1")))
    gateway.status()
    (tmp_path / "control.sock").unlink()
    done = status(tmp_path, "--json")
    said = json.loads(done.stdout)
    assert done.exit_code == 1
    assert said["unanswered"].keys() == {"control"}
    assert said["error"] == said["unanswered"]["control"]
    assert said["error"].startswith(f"no response from control at {tmp_path / 'control.sock'}: ")
    assert said["error"] in done.stderr
