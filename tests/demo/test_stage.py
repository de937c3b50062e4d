import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from gateway.config import load
from gateway.demo import run, site
from gateway.load.keys import report_key
from loadagent.report import claimed_server, decode, parse_key
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port


def demo_servers(of=None):
    return [child for child in psutil.Process(of).children() if "gateway.demo.server" in words(child)]


def words(process):
    try:
        return " ".join(process.cmdline())
    except (psutil.ZombieProcess, psutil.NoSuchProcess):  # another test's, which has ended
        return ""


def ask(address, path):
    with RawClient(int(address.rpartition(":")[2])) as client:
        return client.get(path)


def test_servers_answer_and_their_agents_report_until_the_gateway_ends():
    seen = {}

    def serve(path):
        loaded = load(path).site
        seen["path"] = path
        seen["children"] = demo_servers()
        secret = parse_key((path.parent / "reports.secret").read_bytes())
        addresses = {server.name: str(server.address) for server in loaded.backends["app"].servers}
        assert {name: ask(address, "/who").body for name, address in addresses.items()} == {
            "app1": b"app1\n",
            "app2": b"app2\n",
            "app3": b"app3\n",
        }
        assert b"<h1>app2</h1>" in ask(addresses["app2"], "/").body
        host, _, port = yaml.safe_load(path.read_text())["load_reports"]["listen"].rpartition(":")
        scores: dict[str, float] = {}
        end = time.monotonic() + 40
        with socket.socket(type=socket.SOCK_DGRAM) as reports:
            reports.bind((host, int(port)))
            reports.settimeout(40)
            while scores.get("app3", 0) < 0.5 or len(scores) < 3:
                assert time.monotonic() < end, scores
                data = reports.recv(2000)
                report = decode(data, report_key(secret, claimed_server(data)))
                if report.score is not None:
                    scores[report.server] = report.score
        assert max(scores["app1"], scores["app2"]) < 0.2 < scores["app3"] <= 1.0
        return 7

    assert run(free_port(), serve) == 7
    assert len(seen["children"]) == 3
    assert not any(child.is_running() for child in seen["children"])
    assert not seen["path"].exists()


def test_a_taken_port_is_said_and_nothing_is_started(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert run(port, lambda _: pytest.fail("started")) == 1
    assert f"Port {port} of 127.0.0.1 is taken" in capsys.readouterr().out


def test_servers_end_when_the_demo_is_killed(tmp_path):
    program = f"from gateway.demo import run; import time; run({free_port()}, lambda path: time.sleep(60))"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as demo:
        try:
            eventually(lambda: len(demo_servers(demo.pid)) == 3, "three servers")
            children = demo_servers(demo.pid)
        finally:
            os.kill(demo.pid, signal.SIGKILL)
    gone, left = psutil.wait_procs(children, timeout=30)
    assert (len(gone), left) == (3, [])


def test_site_is_measured_and_names_every_server(tmp_path):
    description = site(8080, tmp_path, {"a": 1, "b": 2}, 3, 4)
    app = description["backends"]["app"]
    assert app["balance"] == "measured"
    assert [server["address"] for server in app["servers"]] == ["127.0.0.1:1", "127.0.0.1:2"]
