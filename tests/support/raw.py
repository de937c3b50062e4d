"""A client that sends exactly the bytes that a test wants to send."""

import io
import socket
import ssl
import struct
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Self

from tests.support.closing import Closing

LIMIT = 10.0  # seconds for any one step


@dataclass(frozen=True, slots=True)
class Response:
    """A final response: fields in order and as written, the body without its framing."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of the one field of that name, None without it. Raises AssertionError."""
        values = [value for field, value in self.fields if field.lower() == name.lower()]
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class _Reader(io.BufferedReader):
    """Outlives each response, which would close it, so that what was read ahead is there for the next one."""

    def close(self) -> None:
        """Leave it open."""

    def makefile(self, mode: str) -> Self:  # noqa: ARG002
        """Be the socket that HTTPResponse wants."""
        return self


class RawClient(Closing):
    """One connection to a local port, over TLS if there is a `context` (then SNI is `server_name`).

    A `port` that is text is the path of a Unix socket. `before` is sent first, before TLS.
    """

    def __init__(
        self,
        port: int | str,
        context: ssl.SSLContext | None = None,
        server_name: str = "localhost",
        host: str = "127.0.0.1",
        before: bytes = b"",
    ) -> None:
        if isinstance(port, str):
            plain = socket.socket(socket.AF_UNIX)
            plain.settimeout(LIMIT)
            plain.connect(port)
        else:
            plain = socket.create_connection((host, port), timeout=LIMIT)
        plain.sendall(before)
        self.socket = plain
        if context:
            self.socket = wrapped = context.wrap_socket(
                plain, server_hostname=server_name, do_handshake_on_connect=False
            )
            try:
                wrapped.do_handshake()
            except OSError:
                wrapped.close()
                raise
        self._raw = self.socket.makefile("rb", buffering=0)
        self._reader = _Reader(self._raw)

    def send(self, data: bytes) -> None:
        """Send all of `data`. Raises OSError."""
        self.socket.sendall(data)

    def end(self) -> None:
        """Say that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def response(self, method: str = "GET") -> Response:
        """Read the final response to a request of `method`. Raises OSError, http.client.HTTPException."""
        while True:
            reply = HTTPResponse(self._reader, method=method)  # type: ignore[arg-type]
            reply.begin()
            if reply.status >= 200 or reply.status == 101:
                return Response(reply.status, reply.reason, reply.getheaders(), reply.read())

    def ask(self, data: bytes, method: str = "GET") -> Response:
        """Send `data` and read the response."""
        self.send(data)
        return self.response(method)

    def get(self, path: str = "/", *fields: str, host: str = "localhost") -> Response:
        """Send a GET with `fields` ("Name: value") and read the response."""
        return self.ask("\r\n".join((f"GET {path} HTTP/1.1", f"Host: {host}", *fields, "", "")).encode())

    def read(self, until: bytes | None = None) -> bytes:
        """Return what comes: up to and including `until`, or all until the other side closes.

        Raises TimeoutError if that takes too long; a reset counts as closing.
        """
        data = b""
        while until is None or until not in data:
            try:
                piece = self._reader.read1(1 << 16) if until is None else self._reader.read(1)
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
        return data

    def is_closed(self) -> bool:
        """Wait for the other side to close; False if it sends something instead. Raises TimeoutError."""
        try:
            return self._reader.read(1) == b""
        except ConnectionResetError:
            return True

    def reset(self) -> None:
        """Close with a reset: nobody can take that for a client that has sent all it has to send and waits."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close at once."""
        self._raw.close()
        self.socket.close()
