"""Commands for a running gateway: they find the right one, wait for the outcome, and say it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.system import running
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

HANDLES = "import signal\nfor n in (1, 12): signal.signal(n, lambda *_: print('caught', flush=True))\nprint('ready', flush=True)\nsignal.pause()"


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def broken(gateway: GatewayProcess) -> None:
    """Put a mistake into the site file of a gateway."""
    gateway.path.write_text(gateway.path.read_text() + "\nbackend: {}\n")


def test_reload_waits_and_prints_the_outcome(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1")))
    eventually(lambda: command("history", "list", "-g", gateway.path).exit_code == 0, "the first version")
    gateway.path.write_text(gateway.path.read_text() + "# a note\n")
    done = command("reload", gateway.path)
    assert (done.exit_code, done.stdout) == (0, f"reloaded: version 2 of {gateway.path}\n")
    assert "reloaded: version 2" in gateway.log  # when the command returned, every worker worked by it
    broken(gateway)
    refused = command("reload", gateway.path)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"reload refused; keeping version 2:\n{gateway.path}:")
    assert "unknown key backend" in refused.stderr
    with RawClient(gateway.port) as client:
        assert client.get().status == 200


def test_status_names_the_mistakes_of_a_refused_site_file(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1")))
    gateway.status()
    assert "REFUSED" not in command("status", gateway.path).stdout
    broken(gateway)
    assert command("reload", gateway.path).exit_code == 1
    shown = command("status", gateway.path)
    assert shown.exit_code == 0, shown.stderr
    assert "RELOAD REFUSED at " in shown.stdout
    assert "unknown key backend" in shown.stdout
    assert "app/app1" in shown.stdout
    assert command("status", gateway.path, "--json").exit_code == 0


def test_two_gateways_are_told_apart(start_servers: Any, tmp_path: Path) -> None:
    servers = start_servers("app1")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    shared = {"admin": {"sockets": str(tmp_path / "shared")}}
    with (
        GatewayProcess(tmp_path / "one", site(servers) | shared) as one,
        GatewayProcess(tmp_path / "two", site(servers) | shared) as two,
    ):
        one.status()
        listed = command("status")
        assert listed.exit_code == 1
        for gateway in (one, two):
            assert f"process {gateway.process.pid} with {gateway.path}" in listed.stderr
        assert f"process {one.process.pid}," in command("status", one.path).stdout
        mistaken = command("status", two.path)
        assert mistaken.exit_code == 1
        assert "another gateway listens there: each needs its own admin.sockets" in mistaken.stderr
        # Its supervisor is asked itself.
        assert command("reload", two.path).stdout == f"reloaded: version 1 of {two.path}\n"
        assert "uses load 2" not in one.log


def test_no_other_process_is_signalled(tmp_path: Path) -> None:
    """A process that handles the signals of a gateway, such as a login shell, and a PID file that names it."""
    with subprocess.Popen([sys.executable, "-c", HANDLES], stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "ready\n"
        (tmp_path / "stale.pid").write_text(f"{stranger.pid}\n")
        for target in (stranger.pid, tmp_path / "stale.pid"):
            for name in ("reload", "upgrade"):
                done = command(name, target)
                assert done.exit_code == 1
                assert f"no gateway runs as process {stranger.pid}" in done.stderr
        stranger.terminate()
        assert stranger.stdout.read() == ""


def test_upgrade_waits_and_prints_the_outcome(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1")))
    good = gateway.path.read_text()
    broken(gateway)
    failed = command("upgrade", gateway.path)
    assert failed.exit_code == 1
    assert "upgrade failed, and the gateway (" in failed.stderr
    assert "unknown key backend" in failed.stderr
    gateway.path.write_text(good)
    done = command("upgrade", gateway.path)
    assert done.exit_code == 0, done.stderr
    assert gateway.wait() == 0
    found = running.find(str(gateway.path))
    assert done.stdout == f"process {found.pid} has taken over from {gateway.process.pid}\n"
    os.kill(found.pid, signal.SIGTERM)
    eventually(lambda: not psutil.pid_exists(found.pid), "the next gateway to end")
    assert not found.socket.exists()


def test_the_socket_of_a_killed_gateway_is_removed(start_servers: list[BackendServer], tmp_path: Path) -> None:
    description: Site = site(start_servers("app1"))  # type: ignore[operator]
    with GatewayProcess(tmp_path, description) as killed:
        left = running.find(str(killed.path)).socket
        killed.expect_death(*killed.workers().values(), killed.control() or 0, killed.process.pid)
        killed.process.kill()
        killed.process.wait()
    assert left.exists()
    assert command("status", killed.path).exit_code == 1
    with killed:  # the same again, because it knows which deaths in the log were expected
        assert not left.exists()
        assert running.find(str(killed.path)).pid == killed.process.pid


def test_a_client_that_sends_nothing_or_nonsense_is_disconnected(start_servers: Any, start_gateway: Any) -> None:
    gateway: GatewayProcess = start_gateway(site(start_servers("app1")))
    found = running.find(str(gateway.path))
    assert "does not know the command" in found.ask("dance")["error"]
    with RawClient(str(found.socket)) as silent, RawClient(str(found.socket)) as long:
        long.send(b"a" * 300)
        assert long.read() == b""
        assert silent.read() == b""  # after two seconds
    assert found.ask("about")["pid"] == gateway.process.pid


def test_the_service_manager_hears_of_reloads_and_of_life(
    start_servers: Any, start_gateway: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")

        def heard(wanted: bytes) -> bytes:
            """The next message but for signs of life."""
            while (message := manager.recv(200)) == b"WATCHDOG=1":
                pass
            assert message.startswith(wanted)
            return message

        gateway: GatewayProcess = start_gateway(site(start_servers("app1")))
        heard(b"READY=1")
        for _ in range(3):
            assert manager.recv(200) == b"WATCHDOG=1"
        assert command("reload", gateway.path).exit_code == 0
        assert int(heard(b"RELOADING=1\nMONOTONIC_USEC=").rpartition(b"=")[2]) > 0
        assert heard(b"READY=1") == f"READY=1\nSTATUS=version 1 of {gateway.path}".encode()
        broken(gateway)
        assert command("reload", gateway.path).exit_code == 1
        heard(b"RELOADING=1")
        heard(b"READY=1")
