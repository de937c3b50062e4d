"""One check of one server: connect, send a request if configured, and classify the result."""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Final, TypeAlias

from h2.exceptions import ProtocolError

from gateway.config.model import Check
from gateway.health import grpc, opening
from gateway.health.result import Outcome, Result
from gateway.health.tls import Tls, context, failure, options
from loadagent.http_get import BadAnswer, ClosedEarly, Question, get

MAX_BODY_BYTES = 64 * 1024
_IN_GRPC = {Outcome.HTTP_TIMEOUT: Outcome.GRPC_TIMEOUT, Outcome.HTTP_CLOSED: Outcome.GRPC_CLOSED}
_NOT_THERE = (Outcome.TCP_CONNECT_REFUSED, Outcome.TCP_CONNECT_FAILED)
_log = logging.getLogger("gateway.health")


@dataclass(frozen=True, slots=True)
class Target:
    """A server to check.

    `name` is for logs, `slot` the row of the Board, `address` where to connect (a path is a Unix socket),
    and `host` the Host header unless the check sets its own. `other` is tried if that address cannot be
    connected to. With `tls` the whole check uses TLS. `greeting` is sent first, before TLS.
    """

    name: str
    slot: int
    address: tuple[str, int] | str
    host: str
    other: tuple[str, int] | None = None
    tls: Tls | None = None
    greeting: bytes = b""


class Probe:
    """Makes checks. Every check opens a new connection: an old one proves nothing about new ones."""

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
                outcome, detail = await _CHECKS[check.kind](target, check, progress)
        except Exception as error:  # noqa: BLE001 - an unexpected error is a failed check
            outcome, detail = _name(error, connected=progress.connected, secure=target.tls is not None)
            if check.kind == "grpc":
                outcome = _IN_GRPC.get(outcome, outcome)
        return Result(outcome, time.monotonic() - began, detail)


async def _connect(target: Target, _check: Check, _progress: SimpleNamespace) -> tuple[Outcome, str]:
    loop = asyncio.get_running_loop()
    place = await opening.greeted(target.address, target.greeting)
    if opening.is_unix(place):
        transport, _ = await loop.create_unix_connection(asyncio.Protocol, **opening.arguments(place))
    else:
        where = opening.arguments(place) | options(target.tls)
        transport, _ = await loop.create_connection(asyncio.Protocol, **where)
    transport.abort()  # nothing was sent, so a reset is fine
    return Outcome.OK, "connected"


async def _ask_grpc(target: Target, check: Check, progress: SimpleNamespace) -> tuple[Outcome, str]:
    try:
        return await grpc.check(
            await opening.greeted(target.address, target.greeting),
            check.host or target.host,
            check.grpc or "",
            progress,
            target.tls,
        )
    except grpc.ClosedEarly as error:
        return Outcome.GRPC_CLOSED, str(error)
    except (ProtocolError, grpc.BadAnswer) as error:
        return Outcome.GRPC_INVALID, str(error)


async def _get(target: Target, check: Check, progress: SimpleNamespace) -> tuple[Outcome, str]:
    def connected() -> None:
        progress.connected = True

    expected = check.expect.body
    tls, name = (context(target.tls), target.tls.name) if target.tls is not None else (None, "")
    question = Question(_request(target, check), MAX_BODY_BYTES if expected is not None else 0, tls, name)
    place = await opening.greeted(target.address, target.greeting)
    status, body = await get(place, question, connected)
    detail = f"HTTP {status}"
    if not any(span.low <= status <= span.high for span in check.expect.status):
        return Outcome.HTTP_STATUS, detail
    if expected is not None and not _holds(expected, body.decode("utf-8", "replace")):
        return Outcome.HTTP_BODY, detail
    return Outcome.OK, detail


def _request(target: Target, check: Check) -> bytes:
    """The request of an HTTP check. It requests no compression: a compressed body could not be compared."""
    fields = {
        "Host": check.asked_host or target.host,
        "User-Agent": "gateway-check",
        "Accept": "*/*",
        "Connection": "close",
    }
    given = {name.lower() for name in check.headers} - {"host"}
    lines = [f"{name}: {value}" for name, value in fields.items() if name.lower() not in given]
    lines += [f"{name}: {value}" for name, value in check.headers.items() if name.lower() != "host"]
    return "\r\n".join([f"{check.method} {check.http} HTTP/1.1", *lines, "", ""]).encode()


def _holds(expected: str, body: str) -> bool:
    return bool(re.search(expected[1:], body)) if expected.startswith("~") else expected in body


def _name(error: Exception, *, connected: bool, secure: bool) -> tuple[Outcome, str]:
    """Classify an error."""
    if isinstance(error, TimeoutError):
        return (Outcome.HTTP_TIMEOUT if connected else Outcome.TCP_CONNECT_TIMEOUT), "no answer"
    if isinstance(error, ssl.SSLError):
        return failure(error)
    detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if not connected and isinstance(error, OSError):
        closed = secure and isinstance(error, ConnectionResetError)
        if closed:
            detail = "closed during the handshake"
        refused = isinstance(error, ConnectionRefusedError)
        named = Outcome.TCP_CONNECT_REFUSED if refused else Outcome.TCP_CONNECT_FAILED
        return (Outcome.TLS_FAILED if closed else named), detail
    if isinstance(error, ClosedEarly | OSError):
        return Outcome.HTTP_CLOSED, detail
    if isinstance(error, BadAnswer):
        return Outcome.HTTP_INVALID, detail
    _log.error("a health check failed with an internal error", exc_info=error)
    return Outcome.CHECK_FAILED, detail


_Kind: TypeAlias = Callable[[Target, Check, SimpleNamespace], Awaitable[tuple[Outcome, str]]]
_CHECKS: Final[dict[str, _Kind]] = {"http": _get, "tcp": _connect, "grpc": _ask_grpc}
"""Check functions by their name in the site file. To add one, add a key to config.model.Check and a line here."""
