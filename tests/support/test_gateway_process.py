import os
import signal
import sys

import psutil
import pytest

from tests.support.gateway_process import GatewayProcess, listeners, site
from tests.support.waiting import answers, eventually

# Stands in for the command: a supervisor with children, to show that the harness sees and ends all, and hears of deaths.
STAND_IN = """
import os, signal, socket, subprocess, sys, time, yaml
signal.signal(signal.SIGHUP, lambda *_: say("reloaded: version 2"))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
def say(text):
    print(f"2026-01-01 00:00:00,000 INFO    [{os.getpid()}] {text}", file=sys.stderr, flush=True)
host, port = yaml.safe_load(open(sys.argv[1]))["frontends"][0]["listen"].rsplit(":", 1)
listener = socket.create_server((host, int(port)))
children = {}
def start(name):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    children[name] = child
    say(f"{name} started, pid {child.pid}")
start("worker 0")
start("control")
while True:
    time.sleep(0.05)
    for name, child in list(children.items()):
        if child.poll() is not None:
            time.sleep(0.3)
            say(f"{name} (pid {child.pid}) was killed by {signal.Signals(-child.returncode).name}; starting another")
            start(name)
"""


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def dies(pid):
    os.kill(pid, signal.SIGSEGV)
    eventually(lambda: not runs(pid), "it to die")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    program = tmp_path / "stand_in.py"
    program.write_text(STAND_IN)
    monkeypatch.setattr(GatewayProcess, "command", (sys.executable, str(program)))
    return tmp_path


def test_tree_is_seen_and_ended_with_its_orphans(stand_in):
    with GatewayProcess(stand_in, site([])) as gateway:
        assert answers("127.0.0.1", gateway.port)
        children = (gateway.workers()[0], gateway.control())
        assert gateway.reload(site([])).endswith("reloaded: version 2")
        assert gateway.terminate() == 0
        assert all(runs(pid) for pid in children)
    assert not any(runs(pid) for pid in children)


def test_killed_worker_is_no_longer_listed(stand_in):
    with GatewayProcess(stand_in, site([])) as gateway:
        old = gateway.kill_worker(0)
        gateway._wait(lambda: gateway.workers().get(0) != old, "the worker to be gone")


@pytest.mark.parametrize("name", ["worker 0", "control"])
def test_a_child_that_dies_fails_the_test(stand_in, name):
    """At once, although the log is late, and once."""
    with GatewayProcess(stand_in, site([])) as gateway:
        gateway.refuse_deaths()
        pid = gateway.workers()[0] if name == "worker 0" else gateway.control()
        dies(pid)
        with pytest.raises(AssertionError, match=rf"(?s)died.*\] {name} \(pid {pid}\) was killed by SIGSEGV; start"):
            gateway.refuse_deaths()
        gateway.refuse_deaths()


def test_a_child_that_dies_at_the_end_fails_the_test(stand_in):
    with pytest.raises(AssertionError, match="was killed by SIGSEGV; starting another"):  # noqa: SIM117 - left first
        with GatewayProcess(stand_in, site([])) as gateway:
            dies(gateway.workers()[0])


def test_a_death_does_not_hide_what_the_test_has_found(stand_in):
    def test():
        with GatewayProcess(stand_in, site([])) as gateway:
            dies(gateway.workers()[0])
            raise ValueError("what the client saw")

    with pytest.raises(ValueError, match="what the client saw") as caught:
        test()
    assert "was killed by SIGSEGV" in caught.value.__notes__[0]


def test_a_supervisor_that_dies_fails_the_test(stand_in):
    with GatewayProcess(stand_in, site([])) as gateway:
        os.kill(gateway.process.pid, signal.SIGSEGV)
        gateway.wait()
        with pytest.raises(AssertionError, match=r"the supervisor \(pid \d+\) ended with -11"):
            gateway.refuse_deaths()


def test_what_a_test_kills_may_die(stand_in):
    with GatewayProcess(stand_in, site([])) as gateway:
        gateway.kill_worker(0)
        gateway.kill_control()
        gateway.refuse_deaths()
        gateway.kill(gateway.process.pid)
        gateway.wait()


def test_tests_leave_behind_no_gateway_to_ask(stand_in):
    with GatewayProcess(stand_in, site([])) as gateway:
        assert gateway in GatewayProcess.running
    assert gateway not in GatewayProcess.running


def test_a_gateway_that_ends_at_once_shows_its_log(stand_in):
    gateway = GatewayProcess(stand_in, site([]))
    gateway.path.write_text("frontends: 1")
    with pytest.raises(AssertionError, match=r"(?s)ended with 1.*TypeError"):
        gateway.start()


def test_listeners_are_where_a_local_client_calls():
    description = {"frontends": [{"listen": ["0.0.0.0:80", "[::]:80"]}, {"listen": "[::1]:443"}]}
    assert listeners(description) == [("127.0.0.1", 80), ("::1", 80), ("::1", 443)]
