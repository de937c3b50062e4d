"""One check of one server: connect, send a request if configured, and classify the result."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace, TracebackType
from typing import Final, Self, TypeAlias

import aiohttp
from h2.exceptions import ProtocolError
from yarl import URL

from gateway.config.model import Check
from gateway.health import grpc
from gateway.health.result import Outcome, Result

MAX_BODY_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
"""The same limit as for responses in traffic: what traffic accepts, a check accepts."""

_IN_GRPC = {Outcome.HTTP_TIMEOUT: Outcome.GRPC_TIMEOUT, Outcome.HTTP_CLOSED: Outcome.GRPC_CLOSED}
_NOT_THERE = (Outcome.TCP_CONNECT_REFUSED, Outcome.TCP_CONNECT_FAILED)
_log = logging.getLogger("gateway.health")


@dataclass(frozen=True, slots=True)
class Target:
    """A server to check.

    `name` is for logs, `slot` the row of the Board, `address` where to connect (a path is a Unix socket),
    and `host` the Host header unless the check sets its own. `other` is tried if that address cannot be connected
    to.
    """

    name: str
    slot: int
    address: tuple[str, int] | str
    host: str
    other: tuple[str, int] | None = None


class Probe:
    """Makes checks. Every check opens a new connection: an old one proves nothing about new ones."""

    async def __aenter__(self) -> Self:
        self._session = self._open(aiohttp.TCPConnector(force_close=True, limit=0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def check(self, target: Target, check: Check) -> Result:
        """Check once, in at most `check.timeout` seconds. Never raises: every failure is a result."""
        result = await self._check(target, check)
        if target.other is not None and result.outcome in _NOT_THERE:
            result = await self._check(replace(target, address=target.other), check)
        return result

    async def _check(self, target: Target, check: Check) -> Result:
        progress = SimpleNamespace(connected=False)
        began = time.monotonic()
        try:
            async with asyncio.timeout(check.timeout):
                outcome, detail = await _CHECKS[check.kind](self, target, check, progress)
        except Exception as error:  # noqa: BLE001 - an unexpected error is a failed check
            outcome, detail = _name(error, connected=progress.connected)
            if check.kind == "grpc":
                outcome = _IN_GRPC.get(outcome, outcome)
        return Result(outcome, time.monotonic() - began, detail)

    async def get(self, target: Target, check: Check, progress: SimpleNamespace) -> tuple[Outcome, str]:
        """Send the request of an HTTP check, and classify the result."""
        if isinstance(target.address, tuple):
            return await _ask(self._session, target, check, progress)
        async with self._open(aiohttp.UnixConnector(target.address, force_close=True)) as session:
            return await _ask(session, target, check, progress)

    @staticmethod
    def _open(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(_refuse_retry)
        trace.on_connection_create_end.append(_note_connection)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "gateway-check"},
            skip_auto_headers=["Accept-Encoding"],  # a compressed body could not be compared
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            trace_configs=[trace],
        )


class _ClosedError(Exception):
    """The server closed the connection without a response."""


async def _refuse_retry(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionCreateStartParams,
) -> None:
    # aiohttp would retry on another connection (RFC 9110 section 9.2.2 allows it); a check is one request.
    if context.trace_request_ctx.connected:
        raise _ClosedError("closed without a response")


async def _note_connection(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    context.trace_request_ctx.connected = True


async def _connect(_: Probe, target: Target, _check: Check, _progress: SimpleNamespace) -> tuple[Outcome, str]:
    if isinstance(target.address, tuple):
        writer = (await asyncio.open_connection(*target.address))[1]
    else:
        writer = (await asyncio.open_unix_connection(target.address))[1]
    writer.transport.abort()  # nothing was sent, so a reset is fine
    return Outcome.OK, "connected"


async def _ask_grpc(_: Probe, target: Target, check: Check, progress: SimpleNamespace) -> tuple[Outcome, str]:
    try:
        return await grpc.check(target.address, target.host, check.grpc or "", progress)
    except grpc.ClosedEarly as error:
        return Outcome.GRPC_CLOSED, str(error)
    except (ProtocolError, grpc.BadAnswer) as error:
        return Outcome.GRPC_INVALID, str(error)


async def _ask(
    session: aiohttp.ClientSession, target: Target, check: Check, progress: SimpleNamespace
) -> tuple[Outcome, str]:
    host, port = target.address if isinstance(target.address, tuple) else ("localhost", 80)
    url = URL(f"http://{f'[{host}]' if ':' in host else host}:{port}{check.http}", encoded=True)
    own_host = any(name.lower() == "host" for name in check.headers)
    headers = check.headers if own_host else {"Host": target.host, **check.headers}
    async with session.get(url, headers=headers, allow_redirects=False, trace_request_ctx=progress) as response:
        detail = f"HTTP {response.status}"
        if not any(span.low <= response.status <= span.high for span in check.expect.status):
            return Outcome.HTTP_STATUS, detail
        if check.expect.body is not None and not _holds(check.expect.body, await _read(response)):
            return Outcome.HTTP_BODY, detail
        return Outcome.OK, detail


async def _read(response: aiohttp.ClientResponse) -> str:
    body = b""
    while chunk := await response.content.read(MAX_BODY_BYTES - len(body)):
        body += chunk
    return body.decode("utf-8", "replace")


def _holds(expected: str, body: str) -> bool:
    return bool(re.search(expected[1:], body)) if expected.startswith("~") else expected in body


def _name(error: Exception, *, connected: bool) -> tuple[Outcome, str]:
    """Classify an error. aiohttp wraps the system's errors, asyncio does not."""
    if isinstance(error, TimeoutError):
        return (Outcome.HTTP_TIMEOUT if connected else Outcome.TCP_CONNECT_TIMEOUT), "no answer"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    detail = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    if not connected and isinstance(cause, ConnectionRefusedError):
        return Outcome.TCP_CONNECT_REFUSED, detail
    if not connected and isinstance(cause, OSError):
        return Outcome.TCP_CONNECT_FAILED, detail
    if isinstance(error, _ClosedError | OSError | aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return Outcome.HTTP_CLOSED, detail
    if isinstance(error, aiohttp.ClientResponseError):
        return Outcome.HTTP_INVALID, detail
    _log.error("a health check failed with an internal error", exc_info=error)
    return Outcome.CHECK_FAILED, detail


_Kind: TypeAlias = Callable[[Probe, Target, Check, SimpleNamespace], Awaitable[tuple[Outcome, str]]]
_CHECKS: Final[dict[str, _Kind]] = {"http": Probe.get, "tcp": _connect, "grpc": _ask_grpc}
"""Check functions by their name in the site file. To add one, add a key to config.model.Check and a line here."""
