"""One request by HTTP/1.1 on a new connection: for a health check, or for the load agent's `url` metric.

httptools (llhttp) reads the answer, strictly: what the gateway refuses from a server when it forwards a request is
refused here, too, but for a few forms that llhttp lets pass; and a head of MAX_HEAD_BYTES is taken here as there.
"""

import asyncio
import base64
import functools
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import quote, unquote, urlsplit

import httptools

MAX_HEAD_BYTES: Final = 64 * 1024
"""Limit on the header fields of a response, including interim responses (RFC 9110 section 15.2)."""
FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))

Place: TypeAlias = tuple[str, int] | str | socket.socket
"""Where to connect: host and port, or the path of a Unix socket; or a connection."""


class BadAnswer(Exception):
    """The response is not valid HTTP/1; the message gives the reason."""


class ClosedEarly(Exception):
    """The server closed the connection before the response was complete."""


class AnswerReader:
    """Parses one response to a GET, without I/O.

    `max_body` bytes of its body are enough; the rest is not looked at. With 0 it is `done` when the head is complete.
    `status` is 0 until then.
    """

    def __init__(self, max_body: int) -> None:
        self.status = 0
        self.body = bytearray()
        self.done = False
        self._max_body = max_body
        self._parser = httptools.HttpResponseParser(self)
        self._fed = 0
        self._head = 0
        self._framed = False
        """The head gives the end of the body; otherwise it is the end of the connection."""

    def feed(self, data: bytes) -> None:
        """Process input. Raises BadAnswer."""
        if self.done:
            return
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.done:  # data after the response is ignored
                raise BadAnswer(str(error)) from None
        if self._head > MAX_HEAD_BYTES or (not self.status and self._fed > MAX_HEAD_BYTES):
            raise BadAnswer(f"the response head is longer than {MAX_HEAD_BYTES} bytes")

    def end(self) -> None:
        """The server has closed the connection. Raises ClosedEarly."""
        if self.done or (self.status and not self._framed):
            self.done = True
        elif self._fed:
            raise ClosedEarly("closed in the middle of the response")
        else:
            raise ClosedEarly("closed without a response")

    # ------------------------------------------------------------------------------------------- called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of a head, or of a trailer section."""
        self._head += len(name) + len(value) + len(b": \r\n")
        self._framed = self._framed or name.lower() in FRAMING

    def on_headers_complete(self) -> None:
        """The end of a head."""
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._framed = False
            return
        self.status = status
        self.done = self._max_body == 0

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self.body += data[: self._max_body - len(self.body)]
        self.done = len(self.body) >= self._max_body

    def on_message_complete(self) -> None:
        """The end of the body, or of an interim answer."""
        self.done = self.status != 0


@dataclass(frozen=True, slots=True)
class Question:
    """The bytes to send, over TLS if there is a context (for the name `host`), and the largest body to read."""

    request: bytes
    max_body: int
    tls: ssl.SSLContext | None = None
    host: str = ""


class _Exchange(asyncio.Protocol):
    """Sends the request and waits for the response."""

    def __init__(self, question: Question, connected: Callable[[], None]) -> None:
        self.reader = AnswerReader(question.max_body)
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._question = question
        self._connected = connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connected()
        transport.write(self._question.request)  # type: ignore[attr-defined]  # of a stream's transport

    def data_received(self, data: bytes) -> None:
        try:
            self.reader.feed(data)
        except BadAnswer as error:
            self._finish(error)
        else:
            if self.reader.done:
                self._finish(None)

    def connection_lost(self, error: Exception | None) -> None:
        try:
            self.reader.end()
        except ClosedEarly as early:
            self._finish(error or early)
        else:
            self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self.answered.done():
            return
        if error is None:
            self.answered.set_result(None)
        else:
            self.answered.set_exception(error)


async def get(place: Place, question: Question, connected: Callable[[], None] = lambda: None) -> tuple[int, bytes]:
    """Return status and body of the response; `connected` is called once connected.

    Raises OSError, BadAnswer, ClosedEarly. The caller bounds it in time.
    """
    loop = asyncio.get_running_loop()
    exchange = _Exchange(question, connected)
    name = question.host if question.tls is not None else None
    if isinstance(place, tuple):
        transport, _ = await loop.create_connection(lambda: exchange, *place, ssl=question.tls, server_hostname=name)
    elif isinstance(place, str):
        transport, _ = await loop.create_unix_connection(lambda: exchange, place)
    elif place.family == socket.AF_UNIX:
        transport, _ = await loop.create_unix_connection(lambda: exchange, sock=place)
    else:
        transport, _ = await loop.create_connection(
            lambda: exchange, sock=place, ssl=question.tls, server_hostname=name
        )
    try:
        await exchange.answered
    finally:
        transport.abort()
    return exchange.reader.status, bytes(exchange.reader.body)


def read_url(url: str, max_body: int) -> tuple[Place, Question]:
    """Return the address and the request for a URL of http or https. Raises ValueError."""
    parts = urlsplit(url)
    name = parts.hostname or ""
    host = name if ":" in name else name.encode("idna").decode()
    secure = parts.scheme == "https"
    fields = {
        "Host": (f"[{host}]" if ":" in host else host) + (f":{parts.port}" if parts.port is not None else ""),
        "User-Agent": "loadagent",
        "Accept": "*/*",
        "Connection": "close",
    }
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        fields["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
    target = _ascii(parts.path or "/") + (f"?{_ascii(parts.query)}" if parts.query else "")
    lines = (f"{field}: {value}" for field, value in fields.items())
    request = "\r\n".join((f"GET {target} HTTP/1.1", *lines, "", "")).encode()
    port = parts.port if parts.port is not None else 443 if secure else 80
    return (host, port), Question(request, max_body, _tls() if secure else None, host)


def _ascii(text: str) -> str:
    """Percent-encode a part of a URL as RFC 3986 requires; existing escapes stay."""
    return quote(text, safe="%/:=&?~#+!$,;'@()*[]")


@functools.cache
def _tls() -> ssl.SSLContext:
    """The TLS context with the system's trusted certificates, which are slow to load."""
    return ssl.create_default_context()
