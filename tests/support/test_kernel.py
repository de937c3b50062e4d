"""The helper that asks the kernel how much of a connection was read."""

import socket

from tests.support.kernel import unread


def test_unread() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        server, _ = listener.accept()
        with server:
            assert unread(client) == 0
            client.sendall(b"12345")
            assert unread(client) == 5
            assert server.recv(3) == b"123"
            assert unread(client) == 2
        assert unread(client) == 0
