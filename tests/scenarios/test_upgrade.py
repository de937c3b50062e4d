"""SIGUSR2: a new gateway takes the sockets over; no request is lost, and what runs finishes with the old one."""

import copy
import os
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests.support import hardened
from tests.support.backend_server import ROOT
from tests.support.connections import clients_of, sockets_on
from tests.support.gateway_process import GatewayProcess, site
from tests.support.load import Load
from tests.support.raw import RawClient
from tests.support.waiting import answers, eventually, free_port, free_udp_port

CHECK = {"http": "/check", "interval": "200ms", "timeout": "5s", "rise": 2, "fall": 2}
GATEWAY = (sys.executable, "-m", "gateway")


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def children(pid):
    return {child.pid for child in psutil.Process(pid).children()}


def end(pid, seconds=10.0):
    """SIGTERM to a supervisor that is not a child of this process, and wait until it is gone."""
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not runs(pid), f"{pid} to end", seconds)


def call(*arguments):
    command, env = [*GATEWAY, *arguments], hardened.environment()
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_upgrades_under_load_lose_no_request(start_servers, start_gateway):
    gateway = start_gateway(site(start_servers("app1", "app2"), workers=2, check=CHECK))
    with Load(gateway.port, clients=12) as load:
        load.wait_for(200)
        old_tree = children(gateway.process.pid)
        first = gateway.upgrade()
        assert gateway.wait() == 0
        assert not any(runs(pid) for pid in old_tree)
        load.wait_for(200)
        since = len(gateway.log)
        os.kill(first, signal.SIGUSR2)
        second = int(gateway_log(gateway, r"upgrade: pid (\d+) has taken over", since).group(1))
        eventually(lambda: not runs(first), "the second one to end")
        load.wait_for(200)
        # The new one is a whole gateway: it replaces its dead, and it reloads.
        since = len(gateway.log)
        os.kill(second, signal.SIGHUP)
        gateway_log(gateway, "reloaded: ", since)
        load.wait_for(100)
    assert load.failures == []
    end(second)
    assert not answers("127.0.0.1", gateway.port)
    assert "ERROR" not in gateway.log


def gateway_log(gateway, pattern, since=0):
    """Like wait_for_log, for when the process that was started has ended."""
    expression = re.compile(pattern)
    eventually(lambda: expression.search(gateway.log, since) is not None, f"{pattern} in the log")
    return expression.search(gateway.log, since)


def test_running_requests_finish_in_the_old_gateway_beyond_the_drain_time(start_servers, start_gateway, tmp_path):
    (server,) = start_servers("app1")
    gateway = start_gateway(site([server], workers=2) | {"drain": "1s"})
    with RawClient(gateway.port) as slow, RawClient(gateway.port) as idle:
        assert idle.get().status == 200
        slow.send(b"GET /when/go HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: server.count == 2, "it to run")
        new = gateway.upgrade()
        # systemd waits at a stop only for a main process that was its own child when it was named.
        assert gateway.process.pid not in [process.pid for process in psutil.Process(new).parents()]
        assert idle.is_closed()
        # New connections come to the new one only, also while the old one still works.
        with RawClient(gateway.port) as client:
            assert client.get().status == 200
            port = client.socket.getsockname()[1]
            assert any(port in clients_of(pid, gateway.port) for pid in children(new))
        time.sleep(2.0)  # the drain is over
        assert gateway.process.poll() is None
        (tmp_path / "go").touch()
        assert slow.response().body == b"app1"
        assert slow.is_closed()
    assert gateway.wait() == 0
    end(new)


def test_new_site_file_counts_and_addresses_come_and_go(start_servers, start_gateway):
    servers = start_servers("app1", "app2")
    description = site(servers[:1], workers=3)
    going = free_port()
    description["frontends"].append({"name": "going", "listen": f"127.0.0.1:{going}"})
    gateway = start_gateway(description)
    changed = copy.deepcopy(description)
    changed["workers"] = 2
    changed["backends"]["app"]["servers"] = [{"name": "app2", "address": servers[1].address}]
    coming = free_port()
    changed["frontends"][1] = {"name": "coming", "listen": f"127.0.0.1:{coming}"}
    gateway.write(changed)
    with Load(gateway.port, clients=8) as load, Load(going, clients=4) as gone:
        load.wait_for(100)
        new = gateway.upgrade()
        assert gateway.wait() == 0
        assert len(children(new)) == 3
        load.wait_for(100)
        eventually(lambda: load.servers["app2"] > 50, "the new server to be used")
        with RawClient(coming) as client:
            assert client.get().header("X-Server") == "app2"
        eventually(lambda: not answers("127.0.0.1", going), "the old address to be gone")
        eventually(lambda: bool(gone.failures), "its clients to notice")
    assert load.failures == []
    # Nobody who was let in was dropped.
    assert [failure for failure in gone.failures if "Connect call failed" not in failure.why] == []
    end(new)


def test_sockets_of_workers_that_went_are_handed_over(start_servers, start_gateway):
    description = site(start_servers("app1"), workers=2)
    gateway = start_gateway(description)
    supervisor = gateway.process.pid
    with Load(gateway.port, clients=16, fields=("Connection: close",)) as load:
        gateway.reload(description | {"workers": 1}, "reloaded: ")
        for count, sockets in ((1, 2), (3, 3), (2, 3)):
            gateway.write(description | {"workers": count})
            since = len(gateway.log)
            os.kill(supervisor, signal.SIGUSR2)
            before = supervisor
            supervisor = int(gateway_log(gateway, r"upgrade: pid (\d+) has taken over", since).group(1))
            load.wait_for(100)
            eventually(lambda: not runs(before), "the old one to end")  # noqa: B023 - called at once
            assert len(children(supervisor)) == count + 1
            assert sockets_on(gateway.port) == sockets
            load.wait_for(100)
    assert load.failures == []
    end(supervisor)
    assert sockets_on(gateway.port) == 0


def test_states_of_servers_are_handed_over(start_servers, start_gateway):
    servers = start_servers("app1", "app2")
    slow_check = {**CHECK, "interval": "1s", "fall": 1}
    gateway = start_gateway(site(servers, workers=1, check=slow_check))
    servers[0].kill()
    gateway.wait_for_log("server app/app1 is DOWN")
    slow_check["interval"] = "60s"
    gateway.write(site(servers, workers=1, check=slow_check) | {"frontends": gateway.site["frontends"]})
    new = gateway.upgrade()
    # Until it has let go of the sockets, the old one accepts as well, and closes after an answer.
    eventually(lambda: not runs(gateway.process.pid), "the old one to end")
    before = servers[1].count
    with RawClient(gateway.port) as client:
        for _ in range(20):
            assert client.get().header("X-Server") == "app2"
    assert servers[1].count >= before + 20
    assert "ERROR" not in gateway.log
    assert gateway.log.count("app/app1 is DOWN") == 1
    end(new)


BROKEN = [
    pytest.param(lambda text: text.replace("routes:", "routs:"), r"site\.yaml:\d+:\d+: .*did you mean", id="site file"),
    pytest.param(
        lambda text: text.replace("workers: 2", "workers: 2\naccess_log: {path: /proc/no.log}"),
        "upgrade failed: .*cannot write the access log /proc/no.log",
        id="start",
    ),
]


@pytest.mark.parametrize("spoil, says", BROKEN)
def test_a_failed_upgrade_changes_nothing_and_prints_the_reason(start_servers, start_gateway, spoil, says):
    gateway = start_gateway(site(start_servers("app1"), workers=2))
    good = gateway.path.read_text()
    processes = gateway.workers(), gateway.control()
    with Load(gateway.port, clients=8) as load:
        load.wait_for(100)
        for _ in range(2):
            since = len(gateway.log)
            gateway.write(spoil(good))
            gateway.process.send_signal(signal.SIGUSR2)
            gateway.wait_for_log("upgrade failed: ", since)
            gateway.wait_for_log(says, since)
            load.wait_for(100)
            assert (gateway.workers(), gateway.control()) == processes
            eventually(lambda: len(children(gateway.process.pid)) == 3, "the failed one to be gone")
        gateway.write(good)
        new = gateway.upgrade()
        load.wait_for(100)
    assert load.failures == []
    end(new)


def test_successor_that_hangs_or_dies_changes_nothing(start_servers, start_gateway):
    gateway = start_gateway(site(start_servers("app1"), workers=2))

    def hanging(since):
        """The successor, stopped before it can have started anything."""
        pid = int(gateway.wait_for_log(r"a new gateway starts, pid (\d+)", since).group(1))
        os.kill(pid, signal.SIGSTOP)
        return pid

    with Load(gateway.port, clients=8) as load:
        since = len(gateway.log)
        gateway.process.send_signal(signal.SIGUSR2)
        pid = hanging(since)
        for number, refused in ((signal.SIGUSR2, "upgrade refused: one is"), (signal.SIGHUP, "reload refused: an up")):
            gateway.process.send_signal(number)
            gateway.wait_for_log(refused, since)
        gateway.kill(pid)
        gateway.wait_for_log("upgrade failed: it was killed by SIGKILL", since)

        since = len(gateway.log)
        gateway.process.send_signal(signal.SIGUSR2)
        pid = hanging(since)
        launcher = psutil.Process(pid).ppid()
        gateway.wait_for_log("upgrade failed: it was not ready within 15s", since, 30.0)
        eventually(
            lambda: not runs(pid) and launcher not in children(gateway.process.pid), "the hanging one to be gone"
        )
        load.wait_for(100)
        new = gateway.upgrade()
        load.wait_for(100)
    assert load.failures == []
    end(new)


def test_commands_work_with_a_pid_file(start_servers, tmp_path):
    pid_file = tmp_path / "gateway.pid"
    with GatewayProcess(tmp_path, site(start_servers("app1"), workers=2), "--pid-file", str(pid_file)) as gateway:
        eventually(pid_file.exists, "the PID file")
        assert pid_file.read_text() == f"{gateway.process.pid}\n"
        assert call("reload", str(pid_file)).returncode == 0
        gateway.wait_for_log("reloaded: ")

        done = call("upgrade", str(pid_file))
        new = int(pid_file.read_text())
        assert (done.returncode, done.stdout) == (0, f"process {new} has taken over from {gateway.process.pid}\n")
        assert gateway.wait() == 0
        assert int(pid_file.read_text()) == new
        for command in ("upgrade", "reload"):
            refused = call(command, str(os.getpid()))
            assert (refused.returncode, "no gateway runs as process" in refused.stderr) == (1, True)
        assert call("reload", str(new)).returncode == 0
        gateway_log(gateway, rf"\[{new}\] reloaded: ")
        end(new)
        assert not pid_file.exists()
        missing = call("upgrade", str(pid_file))
        assert (missing.returncode, "no gateway runs with" in missing.stderr) == (1, True)


def test_the_service_manager_is_notified(start_servers, start_gateway, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        gateway = start_gateway(site(start_servers("app1"), workers=2))
        assert manager.recv(100).startswith(b"READY=1\n")
        new = gateway.upgrade()
        assert manager.recv(100) == f"MAINPID={new}".encode()
        assert gateway.wait() == 0
        end(new)
        assert manager.recv(100) == b"STOPPING=1"
        manager.settimeout(0)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_load_reports_go_to_the_new_one(start_servers, start_gateway, tmp_path):
    key = tmp_path / "agent.key"
    key.write_text("0f" * 32)
    key.chmod(0o600)
    description = site(start_servers("app1"), workers=1)
    port = free_udp_port()
    description["load_reports"] = {"listen": f"127.0.0.1:{port}", "key_file": str(key)}
    gateway = start_gateway(description)
    old_control = gateway.control()
    new = gateway.upgrade()
    assert gateway.wait() == 0
    since = len(gateway.log)
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"no report", ("127.0.0.1", port))
    line = gateway_log(gateway, r"\[(\d+)\] load report from 127.0.0.1 refused", since)
    assert int(line.group(1)) in children(new) - {old_control}
    end(new)


def test_stop_while_an_upgrade_is_under_way_stops_both(start_servers, start_gateway):
    gateway = start_gateway(site(start_servers("app1"), workers=1))
    gateway.path.unlink()
    os.mkfifo(gateway.path)
    gateway.process.send_signal(signal.SIGUSR2)
    pid = int(gateway.wait_for_log(r"a new gateway starts, pid (\d+)").group(1))
    assert gateway.terminate(10.0) == 0  # sooner than one gives up that is not ready
    assert not runs(pid)
