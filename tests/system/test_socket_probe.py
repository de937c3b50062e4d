"""The use of a Unix socket, with real sockets."""

import os
import socket
from pathlib import Path

import pytest

from gateway.system.socket_probe import Use, use


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def bound(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    return sock


def test_no_file(path: Path) -> None:
    assert use(path) is Use.NONE


def test_a_closed_socket_is_abandoned(path: Path) -> None:
    bound(path).close()
    assert use(path) is Use.ABANDONED


def test_a_listening_socket_is_in_use(path: Path) -> None:
    with bound(path) as sock:
        sock.listen()
        assert use(path) is Use.IN_USE


def test_a_socket_with_a_full_queue_is_in_use(path: Path) -> None:
    with bound(path) as sock, socket.socket(socket.AF_UNIX) as client:
        sock.listen(0)
        client.connect(str(path))
        assert use(path) is Use.IN_USE


def test_a_datagram_socket_is_in_use(path: Path) -> None:
    with bound(path, socket.SOCK_DGRAM):
        assert use(path) is Use.IN_USE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to every socket")
def test_a_socket_without_permission_is_forbidden(path: Path) -> None:
    with bound(path) as sock:
        sock.listen()
        path.chmod(0)
        assert use(path) is Use.FORBIDDEN
