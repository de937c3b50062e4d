"""The HTTP listener for operators and their programs, in the running event loop.

It is read-only and has tight limits: few connections, each with one request and one deadline, GET and HEAD only.
Without a token it serves this machine only, and only for the machine's own names in Host: a web page that makes a
browser send requests here has another name there (DNS rebinding).
"""

import asyncio
import hmac
import logging
import re
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

from aiohttp import web, web_protocol

TIMEOUT: Final = 10.0
"""Seconds for a whole connection, from its start to the last byte of the response."""
MAX_CLIENTS: Final = 32
MAX_LINE: Final = 4096
MAX_FIELDS: Final = 64
PUBLIC: Final = frozenset(("/healthz", "/readyz"))
"""Served without a token: they reveal only yes or no, and load balancers and process managers often have no token."""

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::[0-9]*)?")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'",
    "Server": "gateway",
}
_PLAIN: Final = "text/plain; charset=utf-8"

_log = logging.getLogger("gateway.admin")
_discarded = logging.getLogger("gateway.admin.http")  # clients' errors are not logged
_discarded.setLevel(logging.CRITICAL + 1)

Answer = tuple[int, str, str]
"""Status, content type, body."""
Page = Callable[[], Answer]


class _Protocol(web_protocol.RequestHandler):
    """aiohttp's own responses, such as 400 for invalid HTTP, reveal no version and quote no input."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - clients' errors are not logged
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """The response to a request that could not be parsed."""
        if request.writer.output_size > 0:
            raise ConnectionError("the response has already begun")
        return _response(status, _PLAIN, f"{HTTPStatus(status).phrase}\n".lower())


class _Protocols(web.Server):
    """Creates a protocol for each connection."""

    def __call__(self) -> web_protocol.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


def _response(status: int, kind: str, body: str, **extra: str) -> web.Response:
    """The last response on a connection."""
    answer = web.Response(status=status, text=body, headers={**_HEADERS, **extra, "Content-Type": kind})
    answer.force_close()
    return answer


class AdminServer:
    """Serves `pages` by path on a listening socket. `token`: required for pages that are not public; None: no token.

    Closes the socket at the end.
    """

    def __init__(self, sock: socket.socket, pages: Mapping[str, Page], token: bytes | None) -> None:
        self.token = token
        self._socket = sock
        self._pages = pages
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        """Connections without a request so far, oldest first."""
        self._answered: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._joining: set[asyncio.Task[None]] = set()
        self._protocols = _Protocols(
            self._answer,
            access_log=None,
            logger=_discarded,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_FIELDS,
            lingering_time=0.0,
        )
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Stop serving."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for task in self._joining:
            task.cancel()
        for transport, timer in (*self._waiting.items(), *self._answered.items()):
            timer.cancel()
            transport.abort()

    # ----------------------------------------------------------------------------------------------------- connections

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError:
            return
        if not self._make_room():
            client.close()
            return
        task = self._loop.create_task(self._join(client))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join(self, client: socket.socket) -> None:
        try:
            transport, _ = await self._loop.connect_accepted_socket(self._protocols, client)
        except OSError:  # already disconnected
            client.close()
            return
        self._waiting[transport] = self._loop.call_later(TIMEOUT, transport.abort)

    def _make_room(self) -> bool:
        """Whether there is room for one more connection: the oldest one without a request is closed, none with one."""
        for transports in (self._waiting, self._answered):
            for transport in [transport for transport in transports if transport.is_closing()]:
                transports.pop(transport).cancel()
        if len(self._waiting) + len(self._answered) + len(self._joining) < MAX_CLIENTS:
            return True
        if not self._waiting:
            return False
        slowest = next(iter(self._waiting))
        self._waiting.pop(slowest).cancel()
        slowest.abort()
        return True

    # --------------------------------------------------------------------------------------------------------- answers

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        transport = request.transport
        if transport is not None and transport in self._waiting:
            self._answered[transport] = self._waiting.pop(transport)
        extra = {}
        try:
            status, kind, body = self._decide(request)
        except Exception:  # noqa: BLE001 - a bug must not look like a client's mistake
            _log.exception("%s cannot be served", request.path)
            status, kind, body = 500, _PLAIN, "internal error; see the gateway's log\n"
        if status == 401:
            extra["WWW-Authenticate"] = 'Bearer realm="gateway"'
        elif status == 405:
            extra["Allow"] = "GET, HEAD"
        return _response(status, kind, body, **extra)

    def _decide(self, request: web.BaseRequest) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return 405, _PLAIN, "GET or HEAD\n"
        if self.token is None and not is_local(request.headers.get("Host")):
            return 403, _PLAIN, "without admin.token_file, the Host header must name this machine\n"
        page = self._pages.get(request.path)
        if request.path not in PUBLIC and not self._may_see(request.headers.get("Authorization", "")):
            return 401, _PLAIN, "Authorization: Bearer and the token in admin.token_file\n"
        return (404, _PLAIN, "not found\n") if page is None else page()

    def _may_see(self, authorization: str) -> bool:
        """RFC 6750 section 2.1; the scheme in any case (RFC 9110 section 11.1)."""
        if self.token is None:
            return True
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(errors="replace"), self.token)


def is_local(host: str | None) -> bool:
    """Whether a Host field (HTTP/1.0 may omit it) names a loopback address or localhost."""
    match = _HOST.fullmatch(host if host is not None else "localhost")
    if match is None:
        return False
    name = match[1].strip("[]").lower()
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
