"""Commands that drain servers and the like: at once, kept, shown, and ended."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.system import running
from tests.support import hardened
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port


def command(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def state_file(gateway: GatewayProcess) -> Path:
    return next((gateway.path.parent / "state").glob("overrides-*.json"))


def used(gateway: GatewayProcess, requests: int = 12) -> set[str]:
    """The servers that answer requests of a new client each."""
    found = set()
    for _ in range(requests):
        with RawClient(gateway.port) as client:
            answer = client.get()
            found.add(answer.header("X-Server") or str(answer.status))
    return found


def test_a_drained_server_keeps_its_sessions_and_gets_no_new_ones(start_servers: Any, start_gateway: Any) -> None:
    description = site(start_servers("app1", "app2"), affinity={"cookie": "s"})
    gateway: GatewayProcess = start_gateway(description)
    cookie = ""
    while not cookie:
        with RawClient(gateway.port) as client:
            answer = client.get()
            if answer.header("X-Server") == "app1":
                cookie = (answer.header("Set-Cookie") or "").partition(";")[0]
    said = command("drain", "app/app1", "-g", gateway.path).stdout
    assert said.startswith("app/app1: drain, 0 requests in flight, ")
    assert used(gateway) == {"app2"}
    with RawClient(gateway.port) as client:
        assert client.get("/", f"Cookie: {cookie}").header("X-Server") == "app1"
    command("maintenance", "app/app1", "-g", gateway.path)
    with RawClient(gateway.port) as client:
        assert client.get("/", f"Cookie: {cookie}").header("X-Server") == "app2"
    shown = command("status", gateway.path).stdout
    assert "differs from the site file, by command" in shown
    assert "app/app1                      maintenance since " in shown
    assert "gateway_overrides 1\n" in command("status", gateway.path, "--metrics").stdout
    assert command("ready", "app/app1", "-g", gateway.path).stdout.startswith("app/app1: ready, ")
    assert used(gateway) == {"app1", "app2"}
    assert "differs from" not in command("status", gateway.path).stdout


def test_it_holds_over_a_reload_a_death_of_control_an_upgrade_and_a_restart(start_servers: Any, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, site(start_servers("app1", "app2", "app3"), workers=1))
    with gateway:
        gateway.status()
        command("drain", "app/app1", "-g", gateway.path)
        command("maintenance", "app/app2", "-g", gateway.path)
        assert state_file(gateway).stat().st_mode & 0o777 == 0o600
        command("reload", gateway.path)
        assert used(gateway) == {"app3"}
        gateway.kill_control()
        gateway.wait_for_log("control uses load", len(gateway.log))
        gateway.status()
        assert used(gateway) == {"app3"}
        command("upgrade", gateway.path)
        successor = running.find(str(gateway.path)).pid
        assert gateway.wait() == 0
        assert used(gateway) == {"app3"}
        command("forget", "app/app2")
        assert used(gateway) == {"app2", "app3"}
        os.kill(successor, signal.SIGTERM)
        eventually(lambda: not psutil.pid_exists(successor), "the next gateway to end")
    with gateway:
        assert "in force, set by commands over the site file: app/app1" in gateway.log
        assert used(gateway) == {"app2", "app3"}
        gateway.status()
        command("forget", "app")
        assert used(gateway) == {"app1", "app2", "app3"}
        assert json.loads(state_file(gateway).read_text())["overrides"] == {}
        assert gateway.terminate() == 0


def test_a_backend_is_one_command_and_a_server_an_exception(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1", "app2")))
    gateway.status()
    said = command("drain", "app")
    assert "warning: no server of app takes new clients now: they get 503" in said.stderr
    lines = said.stdout.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["app/app1: drain", "app/app2: drain"]
    assert used(gateway) == {"503"}
    command("ready", "app/app2")
    assert used(gateway) == {"app2"}
    command("ready", "app")
    assert used(gateway) == {"app1", "app2"}


def test_a_weight_counts_at_once(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1", "app2"), balance="weighted-round-robin"))
    gateway.status()
    assert command("weight", "app/app1", 9).stdout.startswith("app/app1: weight 9, effective ")

    def shares() -> Counter[str | None]:
        with RawClient(gateway.port) as client:
            return Counter(client.get().header("X-Server") for _ in range(20))

    eventually(lambda: shares() == {"app1": 18, "app2": 2}, "nine of ten requests to go to app1")
    assert "weight 9 since" in command("status").stdout
    assert "a weight is a number from 1 to 256" in command("weight", "app/app1", 0, code=1).stderr
    command("forget", "app/app1")
    eventually(lambda: shares() == {"app1": 10, "app2": 10}, "equal shares again")


def test_waiting_ends_with_the_last_request(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1")))
    gateway.status()
    with RawClient(gateway.port) as slow:
        slow.send(b"GET /drip/10/0.1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert slow.read(until=b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        late = command("drain", "app/app1", "--wait", "--timeout", 0.1, code=1)
        assert "app/app1 still has 1 requests and sessions after 0.1 s" in late.stderr
        with subprocess.Popen(
            [sys.executable, "-m", "gateway", "drain", "app/app1", "--wait"],
            stdout=subprocess.PIPE,
            text=True,
            env=hardened.environment(),
        ) as waiting:
            assert slow.read(until=b"j") == b"abcdefghij"
            assert waiting.communicate(timeout=20)[0] == "app/app1: drain, 0 requests in flight\n"
            assert waiting.returncode == 0


def test_a_terminal_shows_how_many_requests_are_left(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1")))
    gateway.status()
    ours, theirs = os.openpty()
    with RawClient(gateway.port) as slow, os.fdopen(ours, "rb", buffering=0) as terminal:
        slow.send(b"GET /drip/100/0.2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert slow.read(until=b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        with subprocess.Popen(
            [sys.executable, "-m", "gateway", "drain", "app/app1", "--wait"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=hardened.environment(),
        ) as waiting:
            os.close(theirs)
            shown = b""
            while b"1 left" not in shown:
                shown += terminal.read(4096)
            assert b"draining app/app1" in shown
            slow.close()
            assert waiting.stdout is not None
            assert waiting.stdout.read() == b"app/app1: drain, 0 requests in flight\n"
            assert waiting.wait(20) == 0


def test_this_gateway_can_be_drained(start_servers: Any, start_gateway: Any, tmp_path: Path) -> None:
    port = free_port()
    admin = {"sockets": str(tmp_path), "listen": f"127.0.0.1:{port}"}
    gateway: GatewayProcess = start_gateway({**site(start_servers("app1")), "admin": admin})

    def ready() -> int:
        with RawClient(port) as client:
            return client.get("/readyz").status

    eventually(lambda: ready() == 200, "the gateway to be ready")
    assert command("drain", "--node").stdout == f"{gateway.status()['node']}: drain\n"
    assert ready() == 503
    assert used(gateway) == {"app1"}
    assert "this gateway (--node)" in command("status").stdout
    command("reload")
    assert ready() == 503
    command("ready", "--node")
    assert ready() == 200


def test_mistakes_are_named_and_change_nothing(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1", "app2")))
    gateway.status()
    for name, said in (
        ("app/app3", "the backend app has no server app3 (did you mean app"),
        ("ap", "there is no backend ap (did you mean app?)"),
        ("app/", "the backend app has no server "),
    ):
        assert said in command("drain", name, code=1).stderr
    assert "name a server (BACKEND/SERVER) or a BACKEND" in command("drain", code=2).stderr
    assert "name a server (BACKEND/SERVER) or a BACKEND" in command("drain", "app", "--node", code=2).stderr
    assert gateway.status()["overrides"] == {"serial": 0, "node": None, "of": {}}
    found = running.find(str(gateway.path))
    assert "takes one name" in found.ask("drain app/app1 app/app2")["error"]


def test_a_file_that_others_can_write_is_not_believed(start_servers: Any, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, site(start_servers("app1", "app2")))
    with gateway:
        gateway.status()
        command("drain", "app/app1")
        assert gateway.terminate() == 0
    state_file(gateway).chmod(0o666)
    with gateway:
        assert "is lost: another user can write to" in gateway.log
        assert used(gateway) == {"app1", "app2"}


def test_a_state_directory_that_cannot_be_written_is_told(
    start_servers: Any, start_gateway: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    gateway: GatewayProcess = start_gateway(
        {**site(start_servers("app1", "app2")), "state": str(tmp_path / "file" / "x")}
    )
    gateway.status()
    assert "warning: it is not kept over a restart: " in command("drain", "app/app1").stderr
    assert used(gateway) == {"app2"}


def test_results_and_failures_are_json_on_demand(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1")))
    gateway.status()

    def said(*arguments: object, code: int = 0) -> dict[str, Any]:
        return dict(json.loads(command(*arguments, "--json", code=code).stdout))

    (server,) = said("drain", "app/app1")["servers"]
    assert (server["name"], server["admin"], server["in_flight"]) == ("app/app1", "drain", 0)
    assert said("weight", "app/app1", 7)["servers"][0]["weight"] == 7
    assert said("drain", "--node")["node_state"] == "drain"
    assert said("ready", "--node")["node_state"] == "ready"
    assert said("forget", "app")["servers"][0]["admin"] == "ready"
    assert "there is no backend" in said("drain", "nothing", code=1)["error"]
    assert said("reload")["accepted"] is True
    assert said("check", gateway.path) == {
        "ok": True, "problems": [], "frontends": 1, "backends": 1, "servers": 1, "routes": 1,
    }  # fmt: skip
    assert said("test", gateway.path) == {"tests": 0, "failed": []}
    gateway.path.write_text(gateway.path.read_text() + "backend: {}\n")
    refused = said("reload", code=1)
    assert (refused["accepted"], refused["version"]) == (False, 2)
    checked = said("check", gateway.path, code=3)
    assert checked["problems"][0]["message"].startswith("unknown key backend")
    assert "+" in checked["last_good"]["changes"]
    assert "no gateway runs" in said("reload", "1", code=1)["error"]


def test_shells_complete_the_names_of_servers(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1", "app2")))
    gateway.status()
    environment = {
        **hardened.environment(),
        "_GATEWAY_COMPLETE": "bash_complete",
        "COMP_WORDS": "gateway drain app/",
        "COMP_CWORD": "2",
    }
    program = "from gateway.cli import main; main(prog_name='gateway')"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,app/app1", "plain,app/app2"]
