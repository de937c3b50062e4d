"""gateway explain --live: what the running gateway knows of its servers."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from gateway.cli import main
from loadagent.report import Report, State, encode
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_udp_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

KEY = b"0123456789abcdef"


def answering(start: Starter, description: Site) -> GatewayProcess:
    """A gateway whose control has started."""
    gateway = start(description)
    gateway.wait_for_log("control uses load 1")
    return gateway


def explain(path: Path, url: str = "http://a/who", *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["explain", "--live", str(path), "GET", url, *more], catch_exceptions=False)
    return done.exit_code, done.output


def found(gateway: GatewayProcess, url: str = "http://a/who") -> dict[str, Any]:
    status, text = explain(gateway.path, url, "--json")
    assert status == 0, text
    answer: dict[str, Any] = json.loads(text)
    return answer


def candidates(gateway: GatewayProcess) -> dict[str, dict[str, Any]]:
    return {item["server"]: item for item in found(gateway)["candidates"]}


def test_health_loads_and_sessions_are_those_of_the_running_gateway(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    one, two, three = start_servers("one", "two", "three")
    (tmp_path / "agent.key").touch(mode=0o600)
    (tmp_path / "agent.key").write_bytes(KEY)
    port = free_udp_port()
    check = {"http": "/", "interval": "50ms", "timeout": "5s", "rise": 1, "fall": 1}
    description = site([one, two, three], affinity={"cookie": "SRV"}, check=check, agent={"stale_after": "1h"})
    description["load_reports"] = {"listen": f"127.0.0.1:{port}", "key_file": str(tmp_path / "agent.key")}
    description["routes"] = [
        {"match": {"path": "/full", "when": "load('app') > 0.7"}, "respond": {"status": 503}},
        {"match": {"path": "/thin", "when": "up('app') == 1"}, "respond": {"status": 503}},
        {"match": {"path": "/many", "when": "sessions() >= 3"}, "respond": {"status": 503}},
        {"backend": "app"},
    ]
    gateway = answering(start_gateway, description)

    started = time.time_ns()
    sequence = 0

    def report(server: str, load: float, state: State = State.READY) -> None:
        nonlocal sequence
        sequence += 1
        datagram = encode(Report(server, started, sequence, time.time_ns(), state, None, {"cpu": load}), KEY)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.sendto(datagram, ("127.0.0.1", port))

    with RawClient(gateway.port) as client:
        for _ in range(3):
            assert client.get("/who").header("Set-Cookie")
    for name, load in (("one", 0.75), ("two", 0.25)):
        report(name, load)
    report("two", 0.25, State.DRAIN)
    three.kill()
    eventually(
        lambda: (
            {name: (item["state"], item["admin"], item["load"]) for name, item in candidates(gateway).items()}
            == {"one": ("up", "ready", 0.75), "two": ("up", "drain", 0.25), "three": ("down", "ready", None)}
        ),
        "explain to see what checks and agents found",
        30.0,
    )
    now = found(gateway)
    assert now["server"] == "one"
    assert sum(item["sessions"] for item in now["candidates"]) == 3
    assert now["live"] == "state of the running gateway, load 1 of the site file"
    for path in ("full", "thin", "many"):
        assert found(gateway, f"http://a/{path}").get("status") == 503
    with RawClient(gateway.port) as client:  # the workers see the same, and explaining has changed nothing
        for path in ("full", "thin", "many"):
            assert client.get(f"/{path}").status == 503
    assert sum(item["sessions"] for item in candidates(gateway).values()) == 3
    status, text = explain(gateway.path)
    assert status == 0
    for line in (
        "two: up, drain, weight 1, load 0.25",
        "three: down, ready, weight 1, ",
        "→ one: up, ready, weight 1, ",
    ):
        assert line in text


def test_requests_in_flight_count(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    (one,) = start_servers("one")
    description = site([one])
    description["backends"]["app"]["servers"][0]["max_connections"] = 1
    gateway = answering(start_gateway, description)
    with RawClient(gateway.port) as client:
        client.send(b"GET /when/go HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: candidates(gateway)["one"]["in_flight"] == 1, "the request to be in flight", 30.0)
        (tmp_path / "go").touch()
        assert client.response().status == 200
    eventually(lambda: found(gateway)["server"] == "one", "room again", 30.0)


def test_rules_that_are_not_loaded_yet_meet_the_figures_that_are(
    start_gateway: Starter, start_servers: Servers
) -> None:
    (one,) = start_servers("one")
    description = site([one], check={"tcp": True, "interval": "50ms", "fall": 1})
    gateway = answering(start_gateway, description)
    one.kill()
    gateway.wait_for_log("one is DOWN")
    new = {"name": "new", "address": "127.0.0.1:9"}
    servers = [*description["backends"]["app"]["servers"], new]
    changed = {**description, "backends": {"app": {**description["backends"]["app"], "servers": servers}}}
    gateway.write(changed)
    answer = found(gateway)
    assert [(item["server"], item["state"]) for item in answer["candidates"]] == [("one", "down"), ("new", "unknown")]
    assert "has not loaded this site file yet" in answer["live"]
    gateway.reload()
    eventually(lambda: candidates(gateway)["new"]["state"] == "down", "the new server to be checked", 30.0)
    assert found(gateway)["live"] == "state of the running gateway, load 2 of the site file"


def test_control_that_was_replaced_answers_again(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = answering(start_gateway, site(start_servers("one")))
    assert found(gateway)["server"] == "one"
    assert (gateway.path.parent / "control.sock").stat().st_mode & 0o777 == 0o600
    gateway.kill_control()
    eventually(lambda: explain(gateway.path)[0] == 0, "the new control to answer", 30.0)


def test_a_gateway_that_cannot_be_queried_is_named(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    description = site(start_servers("one"))
    stopped = GatewayProcess(tmp_path, description)
    status, text = explain(stopped.path)
    assert status == 1
    assert text.startswith(f"no gateway runs with {stopped.path}")
    gateway = answering(start_gateway, description)
    other = tmp_path / "other.yaml"
    other.write_text(gateway.path.read_text())
    status, text = explain(other)
    assert status == 1
    assert f"no gateway runs with {other}; these run:" in text
    assert f"process {gateway.process.pid} with {gateway.path}" in text
    with socket.socket(socket.AF_UNIX) as silent:  # a silent client is disconnected, and delays no other
        silent.connect(str(tmp_path / "control.sock"))
        silent.sendall(b"what?\n")
        assert silent.recv(1) == b""
        assert found(gateway)["server"] == "one"


def test_a_gateway_that_cannot_have_its_socket_serves_all_the_same(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (tmp_path / "occupied").write_text("")
    gateway = answering(start_gateway, {**site(start_servers("one")), "admin": {"sockets": str(tmp_path / "occupied")}})
    gateway.wait_for_log("explain --live` will not work for this gateway: .*occupied/control.sock: ")
    with RawClient(gateway.port) as client:
        assert client.get("/who").body == b"one"


def test_weights_that_a_command_has_set_count(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = answering(start_gateway, site(start_servers("one", "two"), balance="uri-hash"))
    done = CliRunner().invoke(main, ["weight", "app/one", "256", "-g", str(gateway.path)])
    assert done.exit_code == 0, done.output
    paths = [f"/{number}" for number in range(12)]

    def answers() -> list[str | None]:
        with RawClient(gateway.port) as client:
            return [client.get(path).header("X-Server") for path in paths]

    eventually(lambda: answers().count("one") >= 11, "the worker to use the weight")
    assert [found(gateway, f"http://localhost{path}")["server"] for path in paths] == answers()
