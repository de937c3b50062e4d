"""`gateway logs` and `gateway trace`: what operators follow live, and what it costs those who do not."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.process.tail import Wanted
from gateway.process.tail_connection import NoTail, TailConnection
from gateway.system import running
from tests.support import hardened
from tests.support.backend_server import ROOT, BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Two workers without an access log; /dead/ leads to a server that is not there, then to one that is."""
    directory = tmp_path_factory.mktemp("tails")
    with BackendServer(directory, "app1") as server:
        description = site([server], workers=2)
        description["backends"]["half"] = {
            "servers": [
                {"name": "dead", "address": f"127.0.0.1:{free_port()}"},
                {"name": "app1", "address": server.address, "backup": True},
            ],
        }
        description["backends"]["narrow"] = {
            "servers": [{"name": "app1", "address": server.address, "max_connections": 1}],
            "queue": {"timeout": "10s"},
        }
        description["routes"] = [
            {"match": {"path": "/when/"}, "backend": "narrow"},
            {"match": {"path": "/dead/"}, "backend": "half"},
            {"match": {"path": "/here"}, "respond": {"status": 204}},
            {"backend": "app"},
        ]
        with GatewayProcess(directory, description) as started:
            yield started


def of(gateway: GatewayProcess) -> running.Running:
    return running.find(str(gateway.path))


def following(gateway: GatewayProcess, **wanted: Any) -> TailConnection:
    return TailConnection(of(gateway).socket, Wanted.of(**wanted))


def lines(tail: TailConnection, count: int) -> list[dict[str, Any]]:
    """The next lines, at least so many."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        said = tail.read()
        assert said is not None, "the gateway has ended"
        found.extend(said)
        return len(found) >= count

    eventually(there, f"{count} lines")
    return found


def get(gateway: GatewayProcess, *paths: str, **fields: str) -> None:
    with RawClient(gateway.port) as client:
        for path in paths:
            client.get(path, *(f"{name}: {value}" for name, value in fields.items()))


def in_flight(gateway: GatewayProcess, name: str) -> int:
    """Requests at the servers of a backend."""
    found = [backend for backend in gateway.status()["backends"] if backend["name"] == name]
    return sum(int(server["in_flight"]) for server in found[0]["servers"])


class Command:
    """A command of the gateway in a process of its own, which has begun to follow."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *map(str, arguments)],
            cwd=ROOT,
            env=hardened.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> tuple[int, str, str]:
        output, complaints = self.process.communicate(timeout=20.0)
        return self.process.returncode, output, complaints


def followers(supervisor: int) -> int:
    """How many tails the workers of a gateway write to."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    packets = {f"socket:[{row[6]}]" for row in rows if row[4] == "0005"}
    try:
        workers = [child for child in psutil.Process(supervisor).children() if child.name().startswith("gw-worker")]
        found = [path for worker in workers for path in Path(f"/proc/{worker.pid}/fd").iterdir()]
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(f"{error} has just ended") from None
    each = sum(path.is_symlink() and str(path.readlink()) in packets for path in found) // max(1, len(workers))
    return each - 2  # those of traces and of the programs of maps, which every worker has


def begin(gateway: GatewayProcess, *arguments: object) -> Command:
    """Start a command that follows the gateway, which it does on return."""
    pid = gateway.process.pid
    eventually(lambda: followers(pid) == 0, "those before to be forgotten")
    command = Command(*arguments)
    eventually(lambda: command.process.poll() is not None or followers(pid) == 1, "the command to follow")
    assert command.process.poll() is None, command.finish()
    return command


def test_a_tail_has_the_requests_of_every_worker_and_only_those_that_are_wanted(gateway: GatewayProcess) -> None:
    with following(gateway) as everything, following(gateway, when='path.startsWith("/status/5")') as some:
        for _ in range(20):
            get(gateway, "/", "/status/503", "/here")
        found = lines(everything, 60)
        assert sorted(said["uri"] for said in found) == sorted(["/", "/status/503", "/here"] * 20)
        assert {said["outcome"] for said in found} == {"ok", "answered"}
        assert [said["uri"] for said in lines(some, 20)] == ["/status/503"] * 20


def test_a_tail_chooses_by_outcome_and_by_request_id(gateway: GatewayProcess) -> None:
    with following(gateway, outcomes=frozenset({"refused", "retried"})) as tail, following(gateway) as everything:
        get(gateway, "/", "/dead/1")
        with RawClient(gateway.port) as client:
            client.ask(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        found = lines(tail, 2)
        assert [said["outcome"] for said in found] == ["retried", "refused"]
        assert len(lines(everything, 3)) == 3


def test_a_slow_reader_loses_records_and_is_told_how_many(gateway: GatewayProcess) -> None:
    path = "/here?" + "x" * 4000
    with following(gateway) as tail:
        get(gateway, *[path] * 1000)
        found: list[dict[str, Any]] = []

        def complete() -> bool:
            said = tail.read()
            assert said is not None
            found.extend(said)
            return sum(int(each.get("lost", 1)) for each in found) == 1000

        eventually(complete, "all records, or their number")
        assert any("lost" in said for said in found)
        get(gateway, "/here?after")
        assert lines(tail, 1)[-1]["uri"] == "/here?after"


def test_a_limit_of_records_per_second_counts_the_others(gateway: GatewayProcess) -> None:
    with following(gateway, per_second=10) as tail:
        get(gateway, *["/here"] * 50)
        found = lines(tail, 2)
        assert sum("uri" in said for said in found) < 50
        assert sum(said.get("lost", 1) for said in found) <= 50


def test_a_worker_forgets_a_tail_whose_reader_has_gone(gateway: GatewayProcess) -> None:
    pid = gateway.process.pid
    with following(gateway, when='path == "/never"'):
        eventually(lambda: followers(pid) == 1, "both workers to follow")
    eventually(lambda: followers(pid) == 0, "both workers to forget")


def test_a_wrong_tail_is_refused_with_the_reason(gateway: GatewayProcess) -> None:
    for text, why in (
        ("nonsense", "not JSON"),
        ('{"when": "path =="}', "character"),
        ('{"when": "class == \\"gold\\""}', "the class is not known yet"),
        ('{"when": "up(\\"app\\") > 0"}', "about one request"),
        ('{"outcomes": ["server_timeot"]}', "did you mean server_timeout"),
        ('{"most": -1}', "whole number"),
        ('{"colour": 1}', "with some of"),
        ('{"steps": true}', "of 1 to 100 requests"),
    ):
        assert why in of(gateway).ask(f"tail {text}")["error"]
    with following(gateway) as one:
        tails = [one, *(following(gateway) for _ in range(7))]
        with pytest.raises(NoTail, match="8 tails are followed already"):
            following(gateway)
        for tail in tails:
            tail.close()
    eventually(lambda: _begins(gateway), "room for another one")


def _begins(gateway: GatewayProcess) -> bool:
    try:
        following(gateway).close()
    except NoTail:
        return False
    return True


def test_a_command_that_is_cut_at_any_byte_does_nothing(gateway: GatewayProcess) -> None:
    path = str(of(gateway).socket)
    for command in (b"drain app/app1\n", b"reload\n", b'tail {"most": 1}\n'):
        for end in range(len(command)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(5.0)
                sock.connect(path)
                sock.sendall(command[:end])
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(4096) == b""
    about = of(gateway).ask("about")
    assert about["version"] == 1
    assert [server["admin"] for server in gateway.status()["backends"][0]["servers"]] == ["ready"]


def test_logs_prints_requests_until_it_has_enough(gateway: GatewayProcess) -> None:
    command = begin(gateway, "logs", gateway.path, "--most", 2, "--when", 'path.startsWith("/dead/")')
    get(gateway, "/", "/dead/1", "/dead/2")
    status, output, _ = command.finish()
    assert status == 0
    first, second = output.splitlines()
    assert " 200 GET http://localhost/dead/1 " in first
    assert "half/app1 after 2 tries [" in first
    assert "/dead/2" in second


def test_logs_refuses_a_wrong_expression() -> None:
    done = CliRunner().invoke(main, ["logs", "--when", "pth == '/'"])
    assert done.exit_code == 2
    assert "did you mean path" in done.stderr


def test_trace_shows_every_step_of_the_next_request_that_matches(gateway: GatewayProcess) -> None:
    command = begin(gateway, "trace", gateway.path, "-H", "X-Debug: 7")
    get(gateway, "/", "/dead/1")
    get(gateway, "/dead/2", **{"X-Debug": "7"})
    status, output, complaints = command.finish()
    assert (status, complaints) == (0, "")
    assert output.startswith("GET /dead/2 at localhost [request ")
    steps = [
        f"{gateway.path}:",
        "routes[1] matches: backend half",
        "decided: backend half",
        "chosen: server dead of half",
        "│  → dead: unknown, ready, weight 1, 0 in flight, score 1",
        "FAILED at dead: connect_refused",
        "chosen: server app1 of half, not dead, which failed it",
        "sent to app1 (127.0.0.1:",
        "app1 answers 200, after ",
        "└─ 200, retried, 2 tries, 4 bytes, ",
    ]
    at = -1
    for step in steps:
        assert step in output
        assert output.index(step) > at
        at = output.index(step)


def test_trace_shows_a_request_that_hangs_while_it_hangs(gateway: GatewayProcess) -> None:
    with following(gateway, when='path == "/hang"', steps=True, most=1) as tail, RawClient(gateway.port) as client:
        client.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        found = lines(tail, 3)
        assert [said["step"] for said in found][-1] == "sent"
        assert found[0]["verdict"] == "backend"


def test_trace_shows_what_a_request_waits_for(gateway: GatewayProcess) -> None:
    opened = gateway.path.parent / "opened"
    with (
        following(gateway, when='path == "/when/opened" && "x-second" in headers', steps=True, most=1) as tail,
        RawClient(gateway.port) as first,
        RawClient(gateway.port) as second,
    ):
        first.send(b"GET /when/opened HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: in_flight(gateway, "narrow") == 1, "the server to be full")
        second.send(b"GET /when/opened HTTP/1.1\r\nHost: a\r\nX-Second: 1\r\n\r\n")
        found = lines(tail, 2)
        assert (found[-1]["step"], found[-1]["reason"]) == ("waits", "room")
        opened.touch()
        while "step" in found[-1]:
            found += lines(tail, 1)
    steps = [said.get("step", "ended") for said in found]
    assert steps[:3] == ["decided", "waits", "called"]  # perhaps several times: other workers call theirs, too
    assert "server" in steps
    assert steps[-3:] == ["sent", "answered", "ended"]
    assert found[-1]["queue_ms"] > 0


def test_trace_says_that_no_request_came(gateway: GatewayProcess) -> None:
    done = CliRunner().invoke(main, ["trace", str(gateway.path), "--timeout", "100ms", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {"error": "no request that matches has ended within 0.1 s"}


def test_a_tail_goes_on_over_a_reload_a_death_and_an_upgrade(gateway: GatewayProcess) -> None:
    with following(gateway, when='path == "/here"') as tail:
        gateway.reload()
        get(gateway, "/here")
        lines(tail, 1)
        gateway.kill_worker(1)
        eventually(lambda: len(gateway.workers()) == 2, "another worker")
        for _ in range(8):
            get(gateway, "/here")
        assert len(lines(tail, 8)) == 8


def test_logs_follows_an_upgrade_and_ends_with_the_gateway(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1")))
    command = begin(gateway, "logs", gateway.path, "--json")
    get(gateway, "/?before")
    with RawClient(gateway.port) as client:
        client.send(b"GET /delay/1.5 HTTP/1.1\r\nHost: a\r\n\r\n")
        get(gateway, "/?another")  # by now the slow one is at the server, or its connection is
        successor = gateway.upgrade()
        eventually(lambda: followers(successor) == 1, "the command to follow the successor")
        get(gateway, "/?after")
        assert client.response().status == 200
    gateway.wait()
    os.kill(successor, signal.SIGTERM)
    status, output, complaints = command.finish()
    assert status == 0
    assert sorted(json.loads(line)["uri"] for line in output.splitlines()) == [
        "/?after",
        "/?another",
        "/?before",
        "/delay/1.5",
    ]
    assert complaints == "the gateway has ended\n"


def test_top_prints_one_interval_for_programs(gateway: GatewayProcess) -> None:
    gateway.status()
    command = begin(gateway, "top", gateway.path, "--once", "--every", 1.5, "--json")
    get(gateway, *["/"] * 20, "/dead/1", "/here")
    status, output, complaints = command.finish()
    assert (status, complaints) == (0, "")
    said = json.loads(output)
    (frontend,) = said["frontends"]
    assert round(frontend["requests"] * said["seconds"]) == 22
    names = {server["name"] for server in said["servers"]}
    assert names == {"app/app1", "half/dead", "half/app1", "narrow/app1"}
    assert said["clients"] == [{"client": "127.0.0.1", "part": 1.0}]
    assert said["urls"][0]["url"] == "localhost/"
    assert said["sample"] == {"requests": 22, "left_out": 0}


def test_top_shows_its_page_in_a_terminal_until_a_key_ends_it(gateway: GatewayProcess) -> None:
    gateway.status()
    main_end, other_end = pty.openpty()
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    words = [sys.executable, "-m", "gateway", "top", str(gateway.path), "--every", "0.2"]
    environment = {**hardened.environment(), "TERM": "xterm"}
    with subprocess.Popen(
        words, cwd=ROOT, stdin=other_end, stdout=other_end, stderr=other_end, env=environment
    ) as process:
        os.close(other_end)
        shown = bytearray()

        def shows(text: bytes) -> bool:
            if select.select([main_end], [], [], 0.1)[0]:
                shown.extend(os.read(main_end, 65536))
            return text in shown

        eventually(lambda: shows(b"half/dead"), "the servers")
        os.write(main_end, b"c")
        eventually(lambda: shows(b"client (of"), "the clients")
        os.write(main_end, b"q")
        with contextlib.suppress(OSError):  # the other end is closed
            while process.poll() is None:
                shows(b"")  # what it writes at its end must be read
        assert process.wait(20.0) == 0
    os.close(main_end)
