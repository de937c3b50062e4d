import sys

import psutil
import pytest

from tests.support.gateway_process import GatewayProcess, listeners, site
from tests.support.waiting import answers

# Stands in for the command: a supervisor with children, to show that the harness sees and ends all.
STAND_IN = """
import signal, socket, subprocess, sys, time, yaml
signal.signal(signal.SIGHUP, lambda *_: print("reloaded: version 2", file=sys.stderr, flush=True))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
host, port = yaml.safe_load(open(sys.argv[1]))["frontends"][0]["listen"].rsplit(":", 1)
listener = socket.create_server((host, int(port)))
for name in ("worker 0", "control"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(f"{name} started, pid {child.pid}", file=sys.stderr, flush=True)
while True:
    time.sleep(0.1)
"""


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
        assert gateway.reload(site([])) == "reloaded: version 2"
        assert gateway.terminate() == 0
        assert all(runs(pid) for pid in children)
    assert not any(runs(pid) for pid in children)


def test_killed_worker_is_no_longer_listed(stand_in):
    with GatewayProcess(stand_in, site([])) as gateway:
        gateway.kill_worker(0)
        gateway._wait(lambda: not gateway.workers(), "the worker to be gone")


def test_a_gateway_that_ends_at_once_shows_its_log(stand_in):
    gateway = GatewayProcess(stand_in, site([]))
    gateway.path.write_text("frontends: 1")
    with pytest.raises(AssertionError, match=r"(?s)ended with 1.*TypeError"):
        gateway.start()


def test_listeners_are_where_a_local_client_calls():
    description = {"frontends": [{"listen": ["0.0.0.0:80", "[::]:80"]}, {"listen": "[::1]:443"}]}
    assert listeners(description) == [("127.0.0.1", 80), ("::1", 80), ("::1", 443)]
