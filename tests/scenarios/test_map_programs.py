"""Programs of maps in a whole gateway: asked beside the traffic, confined, replaced by a reload, never waited for."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, load
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
PROGRAM = """\
#!/bin/sh
while IFS= read -r key
do
  case "$key" in
    red) echo rot;;
    version) echo 1;;
    wait) read -r said < "$1"; echo "$said";;
    end) exit 3;;
    me) echo "$(id -u)-$(sed -n 's/^CapEff:\\t//p' /proc/self/status)-$(sed -n 's/^NoNewPrivs:\\t//p' /proc/self/status)";;
    pid) echo $$;;
    *) echo NULL;;
  esac
done
"""
RULES = """\
RewriteEngine on
RewriteMap said "prg:{directory}/program {directory}/pipe"
RewriteRule ^m/(.*)$ /found/${{said:$1|none}} [R,L]
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the site's user may run programs, which pytest's own directory is not."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        os.mkfifo(directory / "pipe")
        (directory / "pipe").chmod(0o666)
        (directory / "program").write_text(PROGRAM)
        (directory / "program").chmod(0o755)
        yield directory


@pytest.fixture
def description(start_servers: Servers, tmp_path: Path, place: Path) -> dict[str, Any]:
    (tmp_path / "rules.htaccess").write_text(RULES.format(directory=place))
    made = {**site(start_servers("app1")), "access_log": {"path": str(tmp_path / "access.log")}}
    made["routes"] = [{"apache": str(tmp_path / "rules.htaccess")}, {"backend": "app"}]
    return made


def found(client: RawClient, key: str) -> str:
    """Where a key leads."""
    answer = client.get(f"/m/{key}")
    assert answer.status in (302, 503), answer
    return (answer.header("Location") or str(answer.status)).rpartition("/")[2]


def programs(gateway: GatewayProcess) -> int:
    """The process id of the latest one that runs programs."""
    return int(re.findall(r"programs started, pid (\d+)", gateway.log)[-1])


def test_a_program_is_asked_while_others_are_served(
    start_gateway: Starter, description: dict[str, Any], tmp_path: Path, place: Path
) -> None:
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client, RawClient(gateway.port) as other:
        assert [found(client, key) for key in ("red", "blue", "red")] == ["rot", "none", "rot"]
        uid, rights, forbidden = found(client, "me").split("-")
        assert (int(rights, 16), forbidden) == (0, "1")
        assert int(uid) == Path(f"/proc/{gateway.workers()[0]}").stat().st_uid or os.geteuid() == 0
        client.send(b"GET /m/wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [other.get("/headers").status for _ in range(20)] == [200] * 20
        (place / "pipe").write_text("at last\n")
        assert (client.response().header("Location") or "").endswith("/found/at%20last")
        assert found(client, "end") == "503"
        assert found(client, "red") == "rot"
    eventually(lambda: "/m/end" in (tmp_path / "access.log").read_text(), "the log line")
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    (line,) = [line for line in lines if line["uri"] == "/m/end"]
    assert line["rule"] == "rules.htaccess:3"
    assert line["why"] == "map said: its program has ended with status 3 before it answered"
    assert lines[0]["why"] == "RewriteRule ^m/(.*)$"
    gateway.wait_for_log(r"map program \S+/program has ended with status 3 before it answered; starting it again")

    def counted() -> bool:
        (one,) = gateway.status()["map_programs"] or [{"failed": {"ended": 0}}]
        return bool(one["failed"]["ended"] == 1 and one["starts"] == 2 and one["found"] >= 4 and one["none"] == 1)

    eventually(counted, "what became of the questions in the status")


def test_a_reload_replaces_a_program_and_loses_no_answer(
    start_gateway: Starter, description: dict[str, Any], place: Path
) -> None:
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client, RawClient(gateway.port) as other:
        assert found(client, "version") == "1"
        before = found(client, "pid")
        gateway.reload()
        assert found(other, "pid") == before, "its file is the same"
        client.send(b"GET /m/wait HTTP/1.1\r\nHost: a\r\n\r\n")
        fresh = place / "fresh"
        fresh.write_text(PROGRAM.replace("echo 1;;", "echo 2;;"))
        fresh.chmod(0o755)
        fresh.replace(place / "program")
        gateway.reload()
        eventually(lambda: found(other, "version") == "2", "the new program")
        (place / "pipe").write_text("old\n")
        assert (client.response().header("Location") or "").endswith("/found/old")
        eventually(lambda: not Path(f"/proc/{before}").exists(), "the end of the old program")
        last = found(client, "pid")
    without = {**description, "routes": [{"backend": "app"}]}
    pid = programs(gateway)
    gateway.reload(without)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of the process that runs none")
    eventually(lambda: not Path(f"/proc/{last}").exists(), "and of its program")
    gateway.reload(description)
    with RawClient(gateway.port) as client:
        eventually(lambda: found(client, "version") == "2", "a new process")


def test_the_death_of_their_process_is_an_answer(start_gateway: Starter, description: dict[str, Any]) -> None:
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client:
        pid = int(found(client, "pid"))
        client.send(b"GET /m/wait HTTP/1.1\r\nHost: a\r\n\r\n")
        gateway.kill(programs(gateway))
        assert client.response().status == 503
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "the end of the program")
        eventually(lambda: found(client, "red") == "rot", "the next process")


def test_check_finds_a_program_that_cannot_be_run(description: dict[str, Any], tmp_path: Path, place: Path) -> None:
    gateway = GatewayProcess(tmp_path, description)
    (place / "program").chmod(0o644)
    with pytest.raises(ConfigError, match=r"program: it is not executable: chmod \+x .*/program"):
        load(gateway.path)
    (place / "program").unlink()
    with pytest.raises(ConfigError, match=r"cannot run .*/program: no such file or directory"):
        load(gateway.path)
    assert [found.severity for found in load(gateway.path, offline=True).warnings if "cannot run" in found.message] == [
        "note"
    ]
