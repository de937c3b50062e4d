import os
import socket

import pytest

from gateway.supervisor.service import PidFile, Watchdog, notify


def test_pid_file_names_this_process_and_goes_with_it(tmp_path):
    path = tmp_path / "gateway.pid"
    path.write_text("12345678 and more\n")
    pid_file = PidFile(path)
    pid_file.write()
    assert path.read_text() == f"{os.getpid()}\n"
    pid_file.remove()
    assert list(tmp_path.iterdir()) == []
    pid_file.remove()


def test_pid_file_of_a_successor_stays(tmp_path):
    path = tmp_path / "gateway.pid"
    pid_file = PidFile(path)
    pid_file.write()
    path.write_text("1\n")
    pid_file.remove()
    assert path.read_text() == "1\n"


@pytest.mark.parametrize("abstract", [False, True])
def test_notification_reaches_the_manager(tmp_path, monkeypatch, abstract):
    name = f"@gateway-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(20.0)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "relative", "/nobody/listens"])
def test_no_manager_is_no_trouble(monkeypatch, address):
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


@pytest.mark.timeout(10)
def test_a_pipe_is_no_pid_file(tmp_path):
    path = tmp_path / "gateway.pid"
    os.mkfifo(path)
    PidFile(path).remove()
    assert path.exists()


def test_the_watchdog_is_notified_twice_in_a_period(monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "10000000")
        watchdog = Watchdog()
        for now, told in ((100.0, True), (104.9, False), (105.0, True), (105.1, False)):
            watchdog.keep_time(now)
            if told:
                assert manager.recv(100) == b"WATCHDOG=1"
            with pytest.raises(BlockingIOError):
                manager.recv(100)
        assert watchdog.deadline == 110.0


@pytest.mark.parametrize("period", [None, "", "0", "soon"])
def test_without_a_watchdog_nothing_is_due(monkeypatch, period):
    if period is None:
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    else:
        monkeypatch.setenv("WATCHDOG_USEC", period)
    assert Watchdog().deadline == float("inf")
