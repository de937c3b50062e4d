"""The HTTP listener for operators and their programs, in the running event loop.

It has tight limits: few connections, each with one request and one deadline, and bodies of bounded size. A request
needs the role of its endpoint (gateway/admin/access.py). Where requests without a token may do something, Host must be
one of the machine's own names: a web page that makes a browser send requests here has another name there (DNS
rebinding). Changes are JSON, and come from no web page of another origin. No cookie says who is asking.
"""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web, web_protocol

from gateway.admin.access import JSON, UNKNOWN, Access, Caller, from_elsewhere, is_json, is_local
from gateway.admin.tls import Context, Peer, peer_of
from gateway.config.admin import AccessRole
from gateway.system import plain_json
from loadagent.log_throttle import LogThrottle
from loadagent.printable import printable

TIMEOUT: Final = 10.0
"""Seconds for a whole connection, from its start to the last byte of the response; see Endpoint."""
MAX_CLIENTS: Final = 32
MAX_STREAMS: Final = 8
"""Of these, connections that get events."""
STREAM_SECONDS: Final = 3600.0
"""Seconds after which a client of events has to connect again."""
FAILED_HANDSHAKES: Final = 10.0
"""Seconds between two lines in the log for the same reason."""
MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a request's body."""
MAX_LINE: Final = 4096
MAX_FIELDS: Final = 64
PLAIN: Final = "text/plain; charset=utf-8"
EVENTS: Final = "text/event-stream"

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Server": "gateway",
}

_log = logging.getLogger("gateway.admin")
_discarded = logging.getLogger("gateway.admin.http")  # clients' errors are not logged
_discarded.setLevel(logging.CRITICAL + 1)

Answer = tuple[int, str, str]
"""Status, content type, body."""


class BadRequest(ValueError):
    """The client's mistake; the text says what to send instead. `status` is that of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be answered: who sent it, and its body; {} without one.

    `token` proves who it is; "": `peer` does, or nothing.
    """

    caller: Caller
    body: Mapping[str, Any]
    token: str = ""
    peer: Peer = UNKNOWN
    query: Mapping[str, list[str]] = field(default_factory=dict)
    """The values of each name after the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What is at a path: `answer`, or `events`, which are texts that are sent as they come; "" shows nothing.

    The first text may be late, or raise BadRequest in its place.

    `role` is what a caller needs; None: nothing, the answer is for everyone. `seconds` is the time for the
    connection, if that is longer than TIMEOUT.
    """

    role: AccessRole | None
    answer: Callable[[Asked], Awaitable[Answer]] | None = None
    events: Callable[[Asked], AsyncIterator[str]] | None = None
    seconds: float = 0.0


Endpoints = Mapping[str, Mapping[str, Endpoint]]
"""By path and method; HEAD is as GET."""


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
        return _response(status, PLAIN, f"{HTTPStatus(status).phrase}\n".lower())


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
    """Serves `endpoints` on a listening socket to those who have `access`. Closes the socket at the end.

    `tls` is for connections that begin from now on; None: they are not encrypted.
    """

    def __init__(self, sock: socket.socket, endpoints: Endpoints, access: Access, tls: Context | None = None) -> None:
        self.access = access
        self.tls = tls
        self._socket = sock
        self._endpoints = endpoints
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        """Connections without a whole request so far, oldest first."""
        self._answered: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._streams = 0
        self._joining: dict[asyncio.Task[None], float] = {}
        """Connections in their handshakes, oldest first, with the end of their time."""
        self._throttle = LogThrottle(FAILED_HANDSHAKES)
        self._protocols = _Protocols(
            self._answer,
            access_log=None,
            logger=_discarded,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_FIELDS,
            lingering_time=0.0,
            auto_decompress=False,
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
        self._joining[task] = self._loop.time() + TIMEOUT
        task.add_done_callback(lambda joined: self._joining.pop(joined, None))

    async def _join(self, client: socket.socket) -> None:
        seconds = {"ssl_handshake_timeout": TIMEOUT, "ssl_shutdown_timeout": 1.0} if self.tls is not None else {}
        try:
            transport, _ = await self._loop.connect_accepted_socket(self._protocols, client, ssl=self.tls, **seconds)
        except (OSError, asyncio.CancelledError) as error:  # already disconnected, or no TLS
            client.close()
            if isinstance(error, ssl.SSLError):
                self._note_failed_handshake(error)
            return
        self._waiting[transport] = self._loop.call_later(TIMEOUT, transport.abort)

    def _make_room(self) -> bool:
        """Whether there is room for one more connection.

        The oldest one without a whole request is closed, none with one.
        """
        for transports in (self._waiting, self._answered):
            for transport in [transport for transport in transports if transport.is_closing()]:
                transports.pop(transport).cancel()
        if len(self._waiting) + len(self._answered) + len(self._joining) < MAX_CLIENTS:
            return True
        if not self._waiting and not self._joining:
            return False
        slowest = next(iter(self._waiting), None)
        joining, until = next(iter(self._joining.items()), (None, 0.0))
        if joining is not None and (slowest is None or until < self._waiting[slowest].when()):
            del self._joining[joining]
            joining.cancel()
            return True
        assert slowest is not None  # noqa: S101 - one of both
        self._waiting.pop(slowest).cancel()
        slowest.abort()
        return True

    def _note_failed_handshake(self, error: ssl.SSLError) -> None:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        kept_back = self._throttle.ask(reason, self._loop.time())
        if kept_back is not None:
            more = f" ({kept_back} more lines like this were left out)" if kept_back else ""
            _log.info("TLS handshake of an operator failed: %s%s", printable(reason), more)

    def _give_time(self, transport: asyncio.Transport | None, seconds: float) -> None:
        """Let a connection with a request last so long from now on, if that is longer than usual."""
        if seconds > TIMEOUT and transport is not None and transport in self._answered:
            self._answered[transport].cancel()
            self._answered[transport] = self._loop.call_later(seconds, transport.abort)

    # --------------------------------------------------------------------------------------------------------- answers

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        try:
            peer = peer_of(transport)
            endpoint, caller = self._admit(request, peer)
            token = request.headers.get("Authorization", "").partition(" ")[2].strip()
            query = {name: request.query.getall(name) for name in request.query}
            asked = Asked(caller, await _body(request), token, peer, query)
            # Only now: bodies that do not come must not take the places of other requests.
            if transport is not None and transport in self._waiting:
                self._answered[transport] = self._waiting.pop(transport)
            if endpoint.events is not None and request.method == "GET":
                return await self._send_events(request, endpoint.events(asked))
            self._give_time(transport, endpoint.seconds)
            status, kind, body = await endpoint.answer(asked) if endpoint.answer is not None else (200, EVENTS, "")
            return _response(status, kind, body)
        except BadRequest as error:
            return self._refuse(request, error)
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - a bug must not look like a client's mistake
            _log.exception("%s cannot be served", request.path)
            return _response(500, PLAIN, "internal error; see the gateway's log\n")

    def _refuse(self, request: web.BaseRequest, error: BadRequest) -> web.Response:
        extra = {}
        if error.status == 401:
            extra["WWW-Authenticate"] = 'Bearer realm="gateway"'
        elif error.status == 405:
            extra["Allow"] = self._allowed(request.path)
        if request.path.startswith("/api/"):
            return _response(error.status, JSON, json.dumps({"error": str(error)}), **extra)
        return _response(error.status, PLAIN, f"{error}\n", **extra)

    def _allowed(self, path: str) -> str:
        methods = self._endpoints.get(path, {"GET": None})
        return ", ".join(name for method in methods for name in ((method, "HEAD") if method == "GET" else (method,)))

    def _admit(self, request: web.BaseRequest, peer: Peer) -> tuple[Endpoint, Caller]:
        """The endpoint of a request, and who sent it. Raises BadRequest for one that is not to be answered."""
        fields = request.headers
        if self.access.open_to is not None and not is_local(fields.get("Host")):
            raise BadRequest("without admin.token_file, the Host header must name this machine", 403)
        method = "GET" if request.method == "HEAD" else request.method
        at_path = self._endpoints.get(request.path)
        endpoint = at_path.get(method) if at_path is not None else None
        caller = self.access.caller(fields.get("Authorization"), peer)
        # What exists is for those to know who may read.
        needed = endpoint.role if endpoint is not None else "read"
        if at_path is not None and endpoint is None and all(each.role is None for each in at_path.values()):
            needed = None
        if needed is not None and (caller is None or (caller.name == "anyone" and not caller.may(needed))):
            raise BadRequest(
                f"Authorization: Bearer and a token of the section admin, or a client certificate: role {needed}",
                401,
            )
        if caller is None:
            caller = Caller("anyone", None)
        if not caller.may(needed):
            raise BadRequest(f"this needs the role {needed}; the operator {caller.name} has {caller.role}", 403)
        if at_path is None:
            raise BadRequest("not found", 404)
        if endpoint is None:
            raise BadRequest(f"only {self._allowed(request.path)}", 405)
        if "Content-Encoding" in fields:
            raise BadRequest("a body without Content-Encoding", 415)
        if method != "GET":
            if from_elsewhere(fields):
                raise BadRequest("a web page of another origin may change nothing here", 403)
            if not is_json(fields.get("Content-Type")):
                raise BadRequest("Content-Type: application/json", 415)
        return endpoint, caller

    async def _send_events(self, request: web.BaseRequest, events: AsyncIterator[str]) -> web.StreamResponse:
        """Send each text as an event (HTML, section 9.2), until the client leaves; slow ones are disconnected."""
        if self._streams >= MAX_STREAMS:
            raise BadRequest(f"{MAX_STREAMS} clients get events already", 503)
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": EVENTS})
        response.force_close()
        self._streams += 1
        try:
            async with aclosing(events) as texts:  # type: ignore[type-var]
                first = await anext(texts, "")
                self._give_time(request.transport, STREAM_SECONDS)
                await response.prepare(request)
                await _send_event(response, first)
                async for text in texts:
                    await _send_event(response, text)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._streams -= 1
        return response


async def _send_event(response: web.StreamResponse, text: str) -> None:
    """Send a text as an event, or a comment that only shows whether the client is there. Raises TimeoutError."""
    async with asyncio.timeout(TIMEOUT):
        await response.write(f"data: {text}\n\n".encode() if text else b":\n\n")


async def _body(request: web.BaseRequest) -> dict[str, Any]:
    """The JSON object in a request, within the connection's deadline. Raises BadRequest."""
    if request.method in {"GET", "HEAD"}:
        return {}
    text = bytearray()
    try:
        async for part in request.content.iter_any():
            text += part
            if len(text) > MAX_BODY:
                raise BadRequest(f"at most {MAX_BODY} bytes", 413)
    except web.RequestPayloadError:  # such as chunks without a size
        raise BadRequest("the body is not framed as HTTP/1.1 says (RFC 9112 section 7.1)") from None
    try:
        found = plain_json.parse(text or b"{}")
    except ValueError:
        raise BadRequest("the body is not JSON") from None
    if not isinstance(found, dict):
        raise BadRequest("the body must be a JSON object")
    return found
