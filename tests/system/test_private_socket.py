"""Asking at a Unix socket: root answers, or the user who asks, or the owner of a directory that is closed to others."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.system import private_socket

NOBODY = 65534


@contextmanager
def answering(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """One client at `path` is answered."""
    listening = private_socket.listen(path, 1)
    listening.settimeout(20.0)

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            client.recv(100)
            try:
                answer(client)
            except OSError:
                return  # the client had enough

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        listening.close()


def test_an_answer_and_its_descriptor(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with answering(tmp_path / "s", lambda client: (socket.send_fds(client, [b"answer"], [writing]), None)[1]):
        text, (descriptor,) = private_socket.ask(tmp_path / "s", b"question\n", 10.0)
    os.write(descriptor, b"here")
    assert (text, os.read(reading, 10)) == (b"answer", b"here")
    for number in (reading, writing, descriptor):
        os.close(number)


def test_an_answer_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_socket, "LONGEST_ANSWER", 1000)
    endless = answering(tmp_path / "s", lambda client: client.sendall(bytes(10_000_000)))
    with endless, pytest.raises(OSError, match="too long"):
        private_socket.ask(tmp_path / "s", b"question\n", 10.0)


def test_an_answer_that_drips_is_given_up(tmp_path: Path) -> None:
    ended = threading.Event()

    def drip(client: socket.socket) -> None:
        while not ended.wait(0.05):
            client.sendall(b"x")

    with answering(tmp_path / "s", drip):
        with pytest.raises(TimeoutError):
            private_socket.ask(tmp_path / "s", b"question\n", 0.5)
        ended.set()


@contextmanager
def another_user_answers(directory: Path) -> Iterator[Path]:
    """A process of another user listens in its directory; yields the path of its socket."""
    os.chown(directory, NOBODY, NOBODY)
    path = directory / "control.sock"
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(NOBODY)
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(str(path))
            listening.listen(1)
            os.write(go, b"x")
            client, _ = listening.accept()
            client.recv(100)
            client.sendall(b'{"state": "running"}')
        finally:
            os._exit(0)
    os.read(ready, 1)
    yield path
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(go)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_service_of_another_account_answers_root_in_its_own_directory() -> None:
    """As with RuntimeDirectory= of a unit: /run/gateway belongs to the gateway's account, /run to root."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        inner = Path(name) / "run"
        inner.mkdir(mode=0o755)
        with another_user_answers(inner) as path:
            assert private_socket.ask(path, b"status\n", 10.0) == (b'{"state": "running"}', [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("outer_mode, inner_mode", [(0o1777, 0o755), (0o755, 0o777)])
def test_another_user_is_not_listened_to_where_others_can_write(outer_mode: int, inner_mode: int) -> None:
    """There another program could put its own socket in the place of the gateway's."""
    with TemporaryDirectory() as name:
        Path(name).chmod(outer_mode)
        inner = Path(name) / "run"
        inner.mkdir()
        inner.chmod(inner_mode)
        with (
            another_user_answers(inner) as path,
            pytest.raises(PermissionError, match="a process of user 65534 listens there"),
        ):
            private_socket.ask(path, b"status\n", 10.0)
