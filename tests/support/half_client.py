"""A client that ends its half of a connection and goes on reading, also over TLS: ssl.SSLSocket cannot."""

import contextlib
import socket
import ssl
import struct

from tests.support.closing import Closing
from tests.support.raw import LIMIT

PIECE = 1 << 16


def reset(connection: socket.socket) -> None:
    """Close with a reset, whatever is still to be sent."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class HalfClient(Closing):
    """One connection to a local port, over TLS if there is a `context`; every step takes LIMIT seconds at most."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._ahead = b""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost") if context else None
        while self._tls:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
        self._flush()

    def _flush(self) -> None:
        if self._out.pending:
            self.socket.sendall(self._out.read())

    def _fill(self) -> None:
        data = self.socket.recv(PIECE)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    def send(self, data: bytes) -> None:
        """Send all of `data`. Raises OSError."""
        if self._tls is None:
            return self.socket.sendall(data)
        for at in range(0, len(data), PIECE):
            self._tls.write(data[at : at + PIECE])
            self._flush()
        return None

    def recv(self) -> bytes:
        """Return what comes next, nothing at the end of the other half. Raises OSError; under TLS that is also an end
        without close_notify.
        """
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        if self._tls is None:
            return self.socket.recv(PIECE)
        while True:
            try:
                return self._tls.read(PIECE)
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    def read(self, until: bytes) -> bytes:
        """Return what comes up to and including `until`. Raises OSError, EOFError if the other half ends before."""
        data = b""
        while until not in data:
            piece = self.recv()
            if not piece:
                raise EOFError(data)
            data += piece
        end = data.index(until) + len(until)
        self._ahead = data[end:]
        return data[:end]

    def rest(self) -> bytes:
        """Return all that comes until the other half ends in good order. Raises OSError."""
        data = b""
        while piece := self.recv():
            data += piece
        return data

    def half_close(self) -> None:
        """End our half: under TLS with close_notify and no FIN, else with a FIN."""
        if self._tls is None:
            return self.fin()
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self._tls.read(PIECE):  # unwrap does not get past it
                self._ahead += piece
        with contextlib.suppress(ssl.SSLWantReadError):  # it waits for the other half, which may go on
            self._tls.unwrap()
        self._flush()
        return None

    def fin(self) -> None:
        """End our half of the TCP connection; under TLS without close_notify."""
        self.socket.shutdown(socket.SHUT_WR)

    def half_close_and_fin(self) -> None:
        """End our half as most clients do: under TLS with close_notify and then a FIN."""
        self.half_close()
        with contextlib.suppress(OSError):  # the other side may have closed by now
            self.fin()

    def reset(self) -> None:
        """Close with a reset."""
        reset(self.socket)

    def close(self) -> None:
        """Close with a FIN: what has come and was not read, such as tickets of TLS, would make it a reset."""
        if self.socket.fileno() >= 0:
            self.socket.settimeout(0.0)
            with contextlib.suppress(OSError):
                while self.socket.recv(PIECE):
                    pass
        self.socket.close()
