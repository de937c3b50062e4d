"""Commands for a gateway by its API: --admin URL, over TLS with a token, and at its Unix socket."""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main, remote
from gateway.system.running import NoAnswer
from tests.support import hardened
from tests.support.backend_server import ROOT, BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

READER = {"user": "root"} if os.geteuid() == 0 else {}
"""Who may read Python's own files, wherever they are: HTTP is loaded when the Unix socket is asked for the first time."""


@dataclass
class Distant:
    """A gateway with a server, and how to reach it from another machine."""

    gateway: GatewayProcess
    url: str
    options: list[str]

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(main, [*words, *self.options])

    def json(self, *words: str, status: int = 0) -> Any:
        done = self.run(*words, "--json")
        assert done.exit_code == status, done.output
        return json.loads(done.stdout)

    def begin(self, output: Path, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command in a process of its own, which writes there."""
        command = [sys.executable, "-u", "-m", "gateway", *words, *self.options]
        with output.open("wb") as file:
            return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=hardened.environment())


def token(directory: Path, name: str) -> Path:
    path = directory / f"{name}.token"
    path.touch(mode=0o600)
    path.write_text(f"the token of {name}\n")
    return path


@pytest.fixture(scope="module", params=["https", "unix"])
def distant(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Distant]:
    """One without a listener for operators, too: its Unix socket is always there."""
    directory = tmp_path_factory.mktemp("remote")
    operators = [{"name": "carol", "token_file": str(token(directory, "carol")), "role": "configure"}]
    port, pair = free_port(), authority.issue("127.0.0.1")
    with BackendServer(directory, "app1") as server:
        description = site([server], affinity={"cookie": "s"})
        admin = {"listen": f"127.0.0.1:{port}", "tls": pair.as_site(), "operators": operators}
        description["admin"] = {"sockets": str(directory), **(admin if request.param == "https" else {})}
        description |= READER if request.param == "unix" else {}
        description["tests"] = [{"request": "GET http://a/", "expect": {"backend": "app"}}]
        with GatewayProcess(directory, description) as gateway:
            url, proof = f"unix:{directory}/api.sock", []
            if request.param == "https":
                url = f"https://127.0.0.1:{port}"
                proof = ["--token-file", str(directory / "carol.token"), "--ca", str(authority.ca)]
            yield Distant(gateway, url, ["--admin", url, *proof])


def figures_left_out(value: Any) -> Any:
    """The value without what changes from one moment to the next."""
    if isinstance(value, dict):
        return {key: figures_left_out(item) for key, item in value.items()}
    if isinstance(value, list):
        return [figures_left_out(item) for item in value]
    return 0 if isinstance(value, int | float) and not isinstance(value, bool) else value


def test_its_status_is_that_of_the_command_on_its_machine(distant: Distant) -> None:
    distant.gateway.status()
    there = distant.json("status")
    here = json.loads(CliRunner().invoke(main, ["status", str(distant.gateway.path), "--json"]).stdout)
    assert figures_left_out(there) == figures_left_out(here)
    assert [server["name"] for backend in there["backends"] for server in backend["servers"]] == ["app1"]
    shown = distant.run("status").stdout
    assert shown.splitlines()[1].startswith(f"{distant.url}, version ")
    assert shown.splitlines()[0].endswith(", running")
    assert "gateway_server_up" in distant.run("status", "--metrics").stdout


def test_what_commands_set_is_in_force_when_they_return(distant: Distant) -> None:
    (server,) = distant.json("drain", "app/app1", "--wait")["servers"]
    assert (server["name"], server["admin"]) == ("app/app1", "drain")
    (server,) = distant.json("maintenance", "app")["servers"]
    assert server["admin"] == "maintenance"
    assert distant.json("ready", "app/app1")["servers"][0]["admin"] == "ready"
    assert distant.json("weight", "app/app1", "7")["servers"][0]["weight"] == 7
    assert distant.json("forget", "app/app1")["servers"][0]["weight"] == 1
    assert distant.json("forget", "app")["servers"][0]["admin"] == "ready"
    assert distant.json("drain", "--node")["node_state"] == "drain"
    assert distant.json("ready", "--node")["node_state"] == "ready"
    refused = distant.json("drain", "app/ap1", status=1)
    assert refused == {"error": "nothing changed: the backend app has no server ap1 (did you mean app1?)"}
    refused = distant.json("weight", "app/app1", "0", status=1)
    assert "weight" in refused["error"]
    refused = distant.json("evacuate-site", "mel", status=1)
    assert refused == {"error": "nothing changed: there are no other sites: the site file has no `sites`"}
    assert "this gateway has no cluster" in distant.json("evacuate", status=1)["error"]


def test_the_operator_socket_and_the_api_say_the_same(distant: Distant) -> None:
    def here(*words: str) -> Any:
        done = CliRunner().invoke(main, [*words, "-g", str(distant.gateway.path), "--json"])
        return json.loads(done.stdout), done.exit_code

    for words in (
        ("drain", "app/app1"), ("drain", "app/app1", "--wait"), ("ready", "app"), ("maintenance", "app"),
        ("weight", "app/app1", "9"), ("forget", "app/app1"), ("forget", "app"), ("drain", "--node"),
        ("ready", "--node"), ("forget", "--node"), ("history", "list"), ("history", "show", "1"),
        ("history", "diff", "1"), ("weight", "app/app1", "0"), ("drain", "app/ap1"), ("maintenance", "nap"),
        ("evacuate-site", "mel"), ("history", "show", "999"),
    ):  # fmt: skip
        said, status = here(*words)
        there = distant.json(*words, status=status)
        for server in (*said.get("servers", ()), *there.get("servers", ())):
            del server["effective_weight"]  # it moves slowly
        if "site" in said:
            assert (said.pop("site"), there.pop("site")) == (str(distant.gateway.path), distant.url)
        assert there == said, words


def test_a_reload_tells_its_outcome(distant: Distant) -> None:
    path = distant.gateway.path
    good = path.read_text()
    done = distant.json("reload")
    version = done["version"]
    here = json.loads(CliRunner().invoke(main, ["reload", str(path), "--json"]).stdout)
    assert {**done, "version": version + 1} == here
    version += 1
    path.write_text("frontends: 1\n")
    refused = distant.json("reload", status=1)
    assert json.loads(CliRunner().invoke(main, ["reload", str(path), "--json"]).stdout) == refused
    path.write_text(good)
    assert (refused["accepted"], refused["version"]) == (False, version)
    assert "site.yaml:1:12" in refused["problems"]
    assert refused["error"].startswith(f"reload refused; keeping version {here['history']}:")
    assert distant.json("reload")["version"] == version + 1


def test_the_history_is_shown_compared_and_gone_back_to(distant: Distant) -> None:
    path = distant.gateway.path
    good = path.read_text()
    before = distant.json("history", "list")["versions"][-1]["number"]
    path.write_text(f"{good}# another\n")
    distant.json("reload")
    here = json.loads(CliRunner().invoke(main, ["history", "list", "-g", str(path), "--json"]).stdout)
    assert distant.json("history", "list")["versions"] == here["versions"]
    assert distant.run("history", "list").stdout.splitlines()[-1].split()[0] == str(before + 1)
    assert distant.json("history", "show", str(before))["text"] == good
    changes = distant.json("history", "diff", str(before), str(before + 1))["changes"]
    assert "# another" in changes
    assert distant.json("history", "diff", str(before + 1))["changes"] == ""
    if distant.url.startswith("unix:"):  # the supervisor itself compares the token of who replaces its site file
        assert "and a token, may apply" in distant.json("history", "apply", str(before), status=1)["error"]
        path.write_text(good)
    else:
        assert distant.json("history", "apply", str(before))["number"] == before
    assert path.read_text() == good
    assert "there is no version 999" in distant.json("history", "show", "999", status=1)["error"]


def test_requests_are_followed_there_and_over_an_upgrade(distant: Distant, tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def status(path: str) -> int:
        with RawClient(distant.gateway.port) as client:
            return client.get(path).status

    with (
        distant.begin(seen, "logs", "--when", 'path.startsWith("/bytes/")') as logs,
        distant.begin(tmp_path / "steps", "trace", "--when", 'path == "/bytes/7"', "--timeout", "30") as trace,
    ):
        eventually(
            lambda: status("/bytes/7") == 200 and (seen.read_text() and trace.poll() is not None), "both to follow"
        )
        assert trace.returncode == 0
        distant.gateway.upgrade()
        eventually(lambda: status("/bytes/8") == 200 and "/bytes/8" in seen.read_text(), "the command to go on")
        logs.send_signal(signal.SIGINT)
    assert logs.returncode == 0
    assert " 200 GET http://localhost/bytes/7 " in seen.read_text()
    steps = (tmp_path / "steps").read_text()
    assert "chosen: server app1 of app" in steps
    assert "200, ok" in steps
    found = distant.json("top", "--once", "--every", "0.3")
    assert [one["name"] for one in found["servers"]] == ["app/app1"]


def test_a_request_is_explained_and_a_site_file_checked_there(distant: Distant, tmp_path: Path) -> None:
    found = distant.json("explain", "-", "GET", "http://a/x", "--live", "-H", "X-A: 1")
    assert (found["request"], found["backend"]) == ("GET http://a/x", "app")
    assert "└─" in distant.run("explain", "-", "GET", "http://a/x", "--live").stdout
    assert "with --admin: gateway explain -" in distant.run("explain", "site.yaml", "GET", "http://a/").stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("frontends: 1\n")
    assert f"{wrong}:1:12: error: " in distant.json("check", str(wrong), status=1)["error"]
    wrong.write_text(distant.gateway.path.read_text().replace("backend: app\n", "backend: nap\n", 1))
    assert distant.run("check", str(wrong)).exit_code == 1
    better = tmp_path / "better.yaml"
    better.write_text(f"{distant.gateway.path.read_text()}# better\n")
    done = distant.run("check", str(better))
    assert (done.exit_code, "+# better" in done.stdout) == (0, True)
    assert f"{better}: ok at {distant.url} (1 tests pass)" in done.stdout


def failure(*words: str) -> str:
    done = CliRunner().invoke(main, ["status", *words])
    assert done.exit_code, done.output
    return done.stderr


@pytest.mark.parametrize("distant", ["https"], indirect=True)
def test_a_gateway_that_cannot_be_asked_is_told_apart_from_one_that_refuses(
    distant: Distant, tmp_path: Path, authority: Authority
) -> None:
    ca = ["--ca", str(authority.ca)]
    stranger = token(tmp_path, "stranger")
    assert "says 401: " in failure("--admin", distant.url, *ca)
    assert "says 401: " in failure("--admin", distant.url, *ca, "--token-file", str(stranger))
    assert "its certificate cannot be trusted" in failure("--admin", distant.url)
    assert "no answer from" in failure("--admin", distant.url.replace("https", "http"))
    assert "connection refused" in failure("--admin", f"https://127.0.0.1:{free_port()}", *ca)
    assert "is not the URL of an admin listener" in failure("--admin", "gw1:8900")
    assert "give the token in a file" in failure("--admin", "https://carol:secret@gw1/")
    assert "leave out the other name" in failure("--admin", distant.url, "site.yaml")
    assert "go with --admin" in failure("--token-file", str(stranger))
    stranger.chmod(0o644)
    assert f"other users can read {stranger}" in failure("--admin", distant.url, "--token-file", str(stranger))
    stranger.chmod(0o600)
    unsafe = failure("--admin", f"http://192.0.2.1.invalid:{free_port()}", "--token-file", str(stranger))
    assert "warning: the token goes to" in unsafe
    http = f"http://127.0.0.1:{distant.gateway.port}"
    assert "this is not the admin API of a gateway" in failure("--admin", http)


def test_any_client_of_http_may_use_the_unix_socket(
    start_gateway: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    gateway = start_gateway({**site([]), "backends": {"app": {"servers": ["127.0.0.1:1"]}}, **READER})
    gateway.status()
    socket_file = tmp_path / "api.sock"
    assert socket_file.stat().st_mode & 0o777 == 0o600
    curl = ["curl", "-sS", "--max-time", "20", "--unix-socket", str(socket_file)]

    def ask(path: str, *options: str) -> Any:
        done = subprocess.run([*curl, *options, f"http://gateway/api/v1/{path}"], check=True, capture_output=True)
        return json.loads(done.stdout)

    me = pwd.getpwuid(os.geteuid()).pw_name
    assert ask("whoami") == {"name": me, "role": "configure"}
    assert ask("status")["gateway"]["program"]
    assert ask("reload", "--json", "{}")["version"] == 2
    assert ask("audit")[0]["who"] == me
    gateway.kill_control()
    eventually(lambda: suppressed(ask, "whoami") is not None, "the next control to answer")


def suppressed(ask: Callable[..., Any], *words: str) -> Any:
    with suppress(subprocess.CalledProcessError):
        return ask(*words)
    return None


@contextmanager
def strange(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server that is no gateway: its URL."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                with client, suppress(OSError):
                    client.recv(65536)
                    answer(client)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


DEEP = b'{"gateway":' * 600 + b"1" + b"}" * 600


@pytest.mark.parametrize("text", [b"[1, 2]", b"5", b"{}", b'"error"', pytest.param(DEEP, id="deep")])
@pytest.mark.parametrize("words", [["status"], ["reload"], ["history", "list"], ["history", "show", "1"]])
def test_a_server_that_is_no_gateway_gets_one_sentence(words: list[str], text: bytes) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
    with strange(lambda client: client.sendall(whole)) as url:
        done = CliRunner().invoke(main, [*words, "--admin", url])
    assert done.exit_code == 1
    assert f"{url} is not the admin API of a gateway of this version" in done.output or text == DEEP
    assert "is not the admin API of a gateway" in done.output
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\n", b"HTTP/1.1 200 "]
)
def test_an_answer_that_comes_byte_by_byte_ends(monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    monkeypatch.setattr(remote, "SLOWEST", 0.1)

    def drip(client: socket.socket) -> None:
        client.sendall(begin)
        while True:
            client.sendall(b" ")
            time.sleep(0.02)

    with strange(drip) as url, pytest.raises(NoAnswer, match=r"not all of it within 0\.4 s"):
        remote.Remote(remote.Access(url)).call("GET", "/status", seconds=0.3)


def test_an_answer_without_end_is_not_collected() -> None:
    def flood(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            client.sendall(bytes(1 << 20))

    with strange(flood) as url, pytest.raises(NoAnswer, match="its answer is longer than 16777216 bytes"):
        remote.Remote(remote.Access(url)).call("GET", "/status")
