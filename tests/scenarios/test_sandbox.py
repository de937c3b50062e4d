"""The processes of a whole gateway are held to their roles, and code that runs in a worker feels it."""

import os
import re
import signal
from functools import partial
from pathlib import Path

import psutil
import pytest

from gateway.hardening import landlock, seccomp
from tests.support.gateway_process import site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

RULE = """
import os
import socket
import subprocess


def attempt(request):
    what = request.path.lstrip("/")
    operations = {
        "write": lambda: open("{directory}/written", "w"),
        "read-key": lambda: open("{directory}/secret").read(),
        "read-list": lambda: open("{directory}/lists/names").read(),
        "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "run": lambda: subprocess.run(["/bin/true"]),
        "kill": lambda: os.kill({parent}, 0),
        "module": lambda: __import__("sqlite3").__name__,
        "exec": lambda: os.execv("/bin/true", ["true"]),
    }
    try:
        found = str(operations[what]())
    except OSError as error:
        found = type(error).__name__
    return {"respond": {"status": 200, "body": found}}
"""
ALLOWED = {"module": "sqlite3", "read-list": "a list"}

pytestmark = pytest.mark.skipif(bool(seccomp.available()), reason=f"left out: {seccomp.available()}")


def fields(pid):
    """The lines of /proc/PID/status, by their names."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def filtered(pid):
    return fields(pid)["Seccomp"] == "2"


def core_limit(pid):
    """The soft limit and the hard limit of core dumps, as /proc/PID/limits has them."""
    line = next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in line)
    return line.split()[4:6]


def ask(gateway, path):
    with RawClient(gateway.port) as client:
        answer = client.get(f"/{path}")
    return answer.body.decode()


@pytest.fixture
def described(start_servers, tmp_path):
    """A site with a rule that tries what a worker may not do."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "names").write_text("a list")
    (tmp_path / "secret").write_text("a key")
    (tmp_path / "rule.py").write_text(RULE.replace("{directory}", str(tmp_path)).replace("{parent}", str(os.getpid())))
    description = site(start_servers("app1")) | {"sandbox": {"read": ["lists"]}, "core_dumps": False}
    if os.geteuid() == 0:
        description["user"] = "root"  # so that it is not the account that keeps anything from the rule
    description["routes"].insert(0, {"python": "rule:attempt"})
    return description


def test_every_process_is_held_to_its_role(start_servers, start_gateway):
    gateway = start_gateway(site(start_servers("app1")) | {"core_dumps": False})
    gateway.wait_for_log("control uses load")
    supervisor = fields(gateway.process.pid)
    assert (supervisor["NoNewPrivs"], supervisor["Seccomp"]) == ("1", "0")
    for pid in (gateway.workers()[0], gateway.control()):
        eventually(partial(filtered, pid), "a filter")
        about = fields(pid)
        assert about["NoNewPrivs"] == "1"
        assert {about[kind] for kind in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    for pid in (gateway.process.pid, gateway.workers()[0], gateway.control()):
        assert core_limit(pid)[0] == "0"
        # What is not dumpable belongs to root (proc(5)), whose user may not look into it.
        assert Path(f"/proc/{pid}/mem").stat().st_uid == 0
    assert "sandbox: disabled" not in gateway.log
    assert ("user: nobody is an account that other programs share" in gateway.log) == (os.geteuid() == 0)


def test_a_rule_can_do_only_what_the_sandbox_allows(described, start_gateway, tmp_path):
    gateway = start_gateway(described)
    pid = gateway.workers()[0]
    refused = {"write", "raw", "listen", "run", "kill"}
    try:
        landlock.version()
        refused.add("read-key")
    except landlock.Unavailable:
        pass
    assert {what: ask(gateway, what) for what in refused} == dict.fromkeys(refused, "PermissionError")
    assert {what: ask(gateway, what) for what in ALLOWED} == ALLOWED
    assert gateway.workers()[0] == pid
    assert not (tmp_path / "written").exists()


def test_a_worker_that_runs_a_program_is_ended_and_the_log_says_why(described, start_gateway):
    gateway = start_gateway(described)
    pid = gateway.workers()[0]
    gateway.expect_death(pid)
    with RawClient(gateway.port) as client:
        client.send(b"GET /exec HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.is_closed()
    gateway.wait_for_log(rf"worker 0 \(pid {pid}\) made a system call that only an intruder makes \(sandbox\)")
    gateway.wait_for_log(rf"worker 0 \(pid {pid}\) was killed by {signal.SIGSYS.name}; starting another")
    eventually(lambda: ask(gateway, "module") == "sqlite3", "the next worker")


def test_a_rule_that_could_not_work_in_a_worker_is_refused_when_it_is_loaded(described, start_gateway, tmp_path):
    gateway = start_gateway(described)
    text = (tmp_path / "rule.py").read_text()
    (tmp_path / "rule.py").write_text(f"{text}\nsubprocess.run(['/bin/true'])\n")
    assert "reload refused" in gateway.reload()
    assert "PermissionError" in gateway.log


def test_a_disabled_sandbox_is_logged_and_restricts_nothing(described, start_gateway):
    gateway = start_gateway(described | {"sandbox": False, "core_dumps": True, "user": "nobody"})
    assert "sandbox: disabled in the site file; only user accounts limit the processes" in gateway.log
    pid = gateway.workers()[0]
    assert fields(pid)["Seccomp"] == "0"
    assert ask(gateway, "udp").startswith("<socket.socket")
    soft, hard = core_limit(pid)
    assert soft == hard
    assert Path(f"/proc/{pid}/mem").stat().st_uid == psutil.Process(pid).uids().real


def test_a_reload_that_changes_it_says_when_it_takes_effect(described, start_gateway):
    gateway = start_gateway(described)
    gateway.reload(described | {"sandbox": False})
    assert re.search("sandbox, core_dumps: a change counts for processes that start from now on", gateway.log)
    before = gateway.kill_worker(0)
    eventually(lambda: gateway.workers().get(0, before) != before, "another worker")
    eventually(lambda: ask(gateway, "udp").startswith("<socket.socket"), "one without a filter")
