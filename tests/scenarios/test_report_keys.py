"""Who may say what about a server's load: a whole gateway, real agents, and datagrams of who has a key."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from loadagent.cli import main as loadagent
from loadagent.report import Report, State, encode
from tests.support.gateway_process import site
from tests.support.programs import run
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_udp_port

GATEWAY = (sys.executable, "-m", "gateway")
AGENT = (sys.executable, "-c", "from loadagent.cli import main; main()", "run")
SHARED = b"a key that all agents of this test share"


def status(gateway):
    with RawClient(gateway.port) as client:
        return client.get("/headers").status


@pytest.fixture
def start(start_servers, start_gateway):
    """Start a gateway before app1 and app2 with these keys; its port for reports."""

    def started(**keys):
        port = free_udp_port()
        description = site(start_servers("app1", "app2"))
        description["load_reports"] = {"listen": f"127.0.0.1:{port}", **keys}
        gateway = start_gateway(description)
        gateway.wait_for_log("control uses load 1")
        return gateway, port

    return started


@pytest.fixture
def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        yield lambda port, data: sender.sendto(data, ("127.0.0.1", port))


@contextlib.contextmanager
def agent(port, key, server, state):
    options = {"server": server, "gateways": f"127.0.0.1:{port}", "key-file": key, "interval": "100ms", "state": state}
    with subprocess.Popen([*AGENT, *(f"--{name}={value}" for name, value in options.items())]) as process:
        try:
            yield
        finally:
            process.kill()


def test_a_server_can_take_out_itself_alone(start, tmp_path):
    secret = tmp_path / "reports.secret"
    run(*GATEWAY, "key", "new", str(secret))
    key = tmp_path / "app1.key"
    run(*GATEWAY, "key", "derive", str(secret), "app1", "--output", str(key))
    gateway, port = start(secret_file=str(secret))
    with agent(port, key, "app2", "maintenance"):
        gateway.wait_for_log("load report from 127.0.0.1 refused: bad signature")
    with agent(port, key, "app1", "maintenance"):
        gateway.wait_for_log("server app/app1: its agent reports MAINTENANCE")
    assert "app2: its agent reports" not in gateway.log
    assert status(gateway) == 200


def test_a_shared_key_shuts_no_server_out_for_good(start, send, tmp_path):
    key = tmp_path / "agent.key"
    key.touch(0o600)
    key.write_bytes(SHARED)
    gateway, port = start(key_file=str(key))
    assert re.search(r"site.yaml:\d+:\d+: warning: .*any server can speak for all the others", gateway.log)
    for name in ("app1", "app2"):
        send(port, encode(Report(name, 2**64 - 1, 2**64 - 1, time.time_ns(), State.MAINTENANCE), SHARED))
    gateway.wait_for_log("load report from 127.0.0.1 refused: app1: an incarnation from the future")
    for name in ("app1", "app2"):
        send(port, encode(Report(name, time.time_ns(), 1, time.time_ns(), State.DRAIN), SHARED))
        gateway.wait_for_log(f"server app/{name}: its agent reports DRAIN")


def test_a_recorded_report_is_not_believed_by_the_control_that_comes_next(start, send, tmp_path):
    key = tmp_path / "agent.key"
    key.touch(0o600)
    key.write_bytes(SHARED)
    gateway, port = start(keys={"app1": str(key)})
    began = time.time_ns()
    recorded = encode(Report("app1", began, 1, began, State.MAINTENANCE), SHARED)
    send(port, recorded)
    gateway.wait_for_log("server app/app1: its agent reports MAINTENANCE")
    send(port, encode(Report("app1", began, 2, time.time_ns()), SHARED))
    gateway.wait_for_log("server app/app1: its agent reports READY")
    old = gateway.kill_control()
    eventually(lambda: gateway.control() not in (None, old), "another control")
    eventually(lambda: gateway.log.count("control uses load 1") == 2, "it to work")
    send(port, recorded)
    gateway.wait_for_log("app1: sent before this gateway began to listen")
    send(port, encode(Report("app1", began, 3, time.time_ns(), State.DRAIN), SHARED))
    gateway.wait_for_log("server app/app1: its agent reports DRAIN")
    assert gateway.log.count("its agent reports MAINTENANCE") == 1


def test_an_agent_asks_what_the_gateway_thinks_of_its_reports(start, tmp_path):
    secret, key, other = tmp_path / "reports.secret", tmp_path / "app1.key", tmp_path / "other.key"
    run(*GATEWAY, "key", "new", str(secret))
    run(*GATEWAY, "key", "new", str(other))
    run(*GATEWAY, "key", "derive", str(secret), "app1", "--output", str(key))
    gateway, port = start(secret_file=str(secret))

    def asked(server, key_file, to=port):
        options = "--server", server, "--key-file", str(key_file), "--gateways", f"127.0.0.1:{to}"
        done = CliRunner().invoke(loadagent, ["test", *options])
        return done.exit_code, done.stdout.partition(f"127.0.0.1:{to}: ")[2]

    assert asked("app1", key) == (
        0,
        "accepted; it has not heard a report of this server yet: is `loadagent run` running?\n",
    )
    with agent(port, key, "app1", "ready"):
        eventually(lambda: "it heard the last report of this server 0." in asked("app1", key)[1], "a report")
    status, said = asked("app1", other)
    assert (status, said.partition(":")[0]) == (1, "wrong key")
    status, said = asked("app9", other)
    assert (status, said.partition(":")[0]) == (1, "unknown server")
    status, said = asked("app1", key, free_udp_port())
    assert (status, said.partition(":")[0]) == (1, "nothing listens there")
    assert "refused: a trial of app1: wrong key" in gateway.log
    options = "--server", "app1", "--key-file", str(key), "--gateways", f"127.0.0.1:{port}", "--json"
    done = CliRunner().invoke(loadagent, ["test", *options])
    (answer,) = json.loads(done.stdout)["gateways"]
    assert (answer["opinion"], answer["signed"]) == ("accepted", True)
    assert abs(answer["clock_ahead"]) < 1.0
