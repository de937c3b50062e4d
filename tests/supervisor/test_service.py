import os
import signal
import socket
import subprocess

import pytest

from gateway.supervisor.service import NotRunning, PidFile, catches, find, notify


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


def test_supervisors_are_told_from_others_by_the_signals_that_they_handle(tmp_path):
    path = tmp_path / "other.pid"
    with subprocess.Popen(["/bin/sleep", "30"]) as other:
        path.write_text(f"{other.pid}\n")
        for target in (str(other.pid), str(path)):
            with pytest.raises(NotRunning, match=f"process {other.pid} is not the supervisor"):
                find(target)
        assert not catches(other.pid, signal.SIGHUP)
        other.kill()
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGHUP, signal.SIGUSR2)}
    try:
        assert find(str(os.getpid())) == os.getpid()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("text", ["", "1 2", "-1", "0x10", "99999999999"])
def test_what_is_no_pid_file_is_said(tmp_path, text):
    path = tmp_path / "gateway.pid"
    path.write_text(text)
    with pytest.raises(NotRunning, match="not a PID file"):
        find(str(path))
    with pytest.raises(NotRunning, match="no such file"):
        find(str(tmp_path / "missing.pid"))


@pytest.mark.timeout(10)
def test_a_pipe_is_no_pid_file(tmp_path):
    path = tmp_path / "gateway.pid"
    os.mkfifo(path)
    with pytest.raises(NotRunning, match="it is not a regular file"):
        find(str(path))
    PidFile(path).remove()
    assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_pid_file_of_one_user_names_no_process_of_another(tmp_path):
    """Whoever can write the file could let root signal what he likes."""
    path = tmp_path / "gateway.pid"
    path.write_text(f"{os.getpid()}\n")
    os.chown(path, 65534, 65534)
    with pytest.raises(NotRunning, match=f"a file of user 65534 names process {os.getpid()}, which is another user's"):
        find(str(path))
