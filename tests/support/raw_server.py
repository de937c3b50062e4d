"""A server that answers with exactly the bytes that a test gives it, well-formed or not."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

LIMIT = 10.0

Script = Callable[[socket.socket, bytes], None]
"""Called with the connection and the request head that has come (and maybe more); the connection closes after it."""


def read_head(connection: socket.socket) -> bytes:
    """Return what has come once it holds an empty line; all there was if the other side ends before. Raises OSError."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            break
        data += piece
    return data


def replies(*blocks: bytes, keep: bool = False) -> Script:
    """Return a script that sends `blocks` one by one, then closes; with `keep` it waits for the other side to close."""

    def script(connection: socket.socket, _: bytes) -> None:
        for block in blocks:
            connection.sendall(block)
        if keep:
            while connection.recv(65536):
                pass

    return script


class Acceptor:
    """Serves each connection to a local port in a thread of its own. A context manager."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._sockets)

    def serve(self, connection: socket.socket, number: int) -> None:
        """Serve one, the `number`th; it is closed afterwards. May raise OSError."""
        raise NotImplementedError

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(LIMIT)
                self._sockets.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):
            self.serve(connection, number)

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._accept, daemon=True)
        self._threads.append(thread)
        thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()


class RawServer(Acceptor):
    """Runs `script` for each connection that sends a request; `heads` are what came first on each.

    receive_buffer: bytes that the kernel takes ahead of the script (SO_RCVBUF); default: as many as it likes.
    """

    def __init__(self, script: Script, receive_buffer: int | None = None) -> None:
        super().__init__()
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.script = script
        self.heads: list[bytes] = []
        self.name = "raw"

    def serve(self, connection: socket.socket, number: int) -> None:  # noqa: ARG002
        """Read a head, and let the script go on."""
        head = read_head(connection)
        if head:
            self.heads.append(head)
            self.script(connection, head)
