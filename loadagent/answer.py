"""Answers requests for the load: HTTP `GET /load`, or the HAProxy agent-check line for a client that sends nothing.

Both share a port, so monitors of either kind need only one address. In an agent check (HAProxy configuration manual,
`agent-check`) the client connects and waits for a line; an HTTP client sends first.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable

from loadagent.admin_state import AdminState
from loadagent.door import Door
from loadagent.log_throttle import LogThrottle
from loadagent.report import State
from loadagent.score import Sample

SPEAKS_FIRST = 0.2  # seconds until a silent client is treated as an agent check
HEAD_TIMEOUT = 2.0  # seconds for the whole connection
MAX_HEAD_BYTES = 8192

_AGENT_WORDS = {State.READY: "ready", State.DRAIN: "drain", State.MAINTENANCE: "maint"}
_log = logging.getLogger("loadagent")
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


class Answer:
    """The listening side of an agent. `sample` returns the latest measurements; `door` decides who may connect."""

    def __init__(
        self, server: str, admin_state: AdminState, sample: Callable[[], Sample], door: Door | None = None
    ) -> None:
        self._server = server
        self._admin_state = admin_state
        self._sample = sample
        self._door = door or Door()
        self._throttle = LogThrottle()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; made for asyncio.start_server."""
        try:
            if self._lets_in(writer):
                async with asyncio.timeout(HEAD_TIMEOUT):
                    writer.write(await self._answer(reader))
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client disconnected, was too slow or sent too much: no response is possible
        finally:
            self._door.leave(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _lets_in(self, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("peername")
        if not peer:  # already disconnected
            return False
        address = str(peer[0])
        if not self._door.allows(address):
            kept_back = self._throttle.ask(address, asyncio.get_running_loop().time())
            if kept_back is not None:
                more = f" ({kept_back} more like this before)" if kept_back else ""
                _log.warning("connection from %s refused: it is not in the networks of `allow`%s", address, more)
            return False
        self._door.enter(writer, address, writer.transport.abort)
        return True

    def line(self) -> str:
        """Return the agent-check line: the state, and the free share as a weight in percent."""
        score = self._sample().score
        weight = "" if score is None else f" {max(1, round(100 * (1.0 - score)))}%"
        return f"up {_AGENT_WORDS[self._admin_state.state]}{weight}\n"

    def document(self) -> str:
        """Return the load as JSON: the score (null if nothing could be measured), and each metric's share."""
        sample = self._sample()
        shares = {name: round(share, 4) for name, share in sample.shares.items()}
        score = max(shares.values(), default=None)
        return json.dumps(
            {"server": self._server, "state": self._admin_state.state.name.lower(), "score": score, "metrics": shares}
        )

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(SPEAKS_FIRST):
                first = await reader.read(1)
        except TimeoutError:
            return self.line().encode("ascii")
        if not first:
            return self.line().encode("ascii")
        head = first + await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        target, _, version = rest.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            status = 400
        elif target.partition(b"?")[0] != b"/load":
            status = 404
        else:
            status = 200 if method in (b"GET", b"HEAD") else 405
        body = self.document() + "\n" if status == 200 else _REASONS[status] + "\n"
        kind = "application/json" if status == 200 else "text/plain"
        allow = "Allow: GET, HEAD\r\n" if status == 405 else ""
        response = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return (response + ("" if method == b"HEAD" else body)).encode("ascii")
