"""DNS over TCP (RFC 7766): many queries on a connection, each answered as it comes; idle connections end.

What a connection may hold is bounded: one message that is not complete, and responses up to HIGH bytes, beyond which
nothing is read until the client has taken them.
"""

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, cast

from gateway.dns.responder import Responder

HIGH: Final = 128 * 1024
LARGEST: Final = 4096
"""Bytes of a message; there is no longer query."""
TURN: Final = 64
"""Connections accepted before others of the loop have their turn."""
LAST: Final = 0.5
"""Seconds without a query after which connections end when the process is to end."""
PAUSE: Final = 1.0
"""Seconds without accepting, when there are no descriptors."""

_log = logging.getLogger("gateway.dns")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of connections: altogether, of one address, and seconds that one may be idle."""

    connections: int = 1000
    per_source: int = 20
    idle: float = 10.0


class Listener:
    """Accepts connections at several sockets, in the running event loop, until closed."""

    def __init__(self, responder: Responder, limits: Limits) -> None:
        self.limits = limits
        self.counts: Counter[str] = Counter(connections=0, refused=0, idle=0, malformed=0)
        self._responder = responder
        self._open: set[Connection] = set()
        self._sources: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self._sockets: set[socket.socket] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def add(self, sock: socket.socket) -> None:
        """Accept at a socket that listens."""
        self._sockets.add(sock)
        self._loop.add_reader(sock, self._accept, sock)

    def remove(self, sock: socket.socket) -> None:
        """Accept there no more; the connections stay."""
        self._sockets.discard(sock)
        self._loop.remove_reader(sock)

    async def drain(self, seconds: float) -> None:
        """Accept no more, and return when no connection is left: a client has LAST for one more query."""
        for sock in list(self._sockets):
            self.remove(sock)
        for connection in self._open:
            connection.hurry(min(LAST, seconds))
        if self._open:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)

    def close(self) -> None:
        """Accept no more, and end all connections."""
        for sock in list(self._sockets):
            self.remove(sock)
        for task in self._joining:
            task.cancel()
        for connection in list(self._open):
            connection.end()

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(TURN):
            try:
                client, address = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("cannot accept TCP clients for %g s: %s", PAUSE, error.strerror)
                self._loop.remove_reader(sock)
                self._loop.call_later(PAUSE, self._again, sock)
                return
            source = str(address[0])
            if len(self._open) >= self.limits.connections or self._sources[source] >= self.limits.per_source:
                self.counts["refused"] += 1
                client.close()
                continue
            client.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            connection = Connection(self._responder, self.limits.idle, source, self._ended, self.counts)
            self.counts["connections"] += 1
            self._open.add(connection)
            self._sources[source] += 1
            task = self._loop.create_task(self._join(connection, client))
            self._joining.add(task)
            task.add_done_callback(self._joining.discard)

    def _again(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    async def _join(self, connection: "Connection", client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, client)
        except OSError:
            client.close()
            self._ended(connection)

    def _ended(self, connection: "Connection") -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._sources[connection.source] -= 1
            if not self._sources[connection.source]:
                del self._sources[connection.source]
            if not self._open:
                self._empty.set()


class Connection(asyncio.Protocol):
    """A client. Each message has its length before it, two bytes (RFC 1035 section 4.2.2)."""

    def __init__(
        self,
        responder: Responder,
        idle: float,
        source: str,
        ended: Callable[["Connection"], None],
        counts: Counter[str],
    ) -> None:
        self.source = source
        self._address = ip_address(source.partition("%")[0]).packed
        self._responder = responder
        self._idle = idle
        self._ended = ended
        self._counts = counts
        self._held = bytearray()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._deadline: asyncio.TimerHandle | None = None
        self._blocked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for queries."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no class of asyncio's
        self._transport.set_write_buffer_limits(HIGH)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why is all the same
        """Forget the client."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._ended(self)

    def data_received(self, data: bytes) -> None:
        """Answer the messages that are complete."""
        self._held += data
        self._answer()

    def pause_writing(self) -> None:
        """The client does not take its answers: read no more. The time that it may do so is that of an idle one."""
        self._blocked = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._blocked = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._answer()

    def hurry(self, idle: float) -> None:
        """Be idle for so long at most."""
        self._idle = idle
        self._wait()

    def end(self) -> None:
        """Close the connection; what is answered already is still sent."""
        if self._transport is not None:
            self._transport.close()

    def _answer(self) -> None:
        transport, at, answered = self._transport, 0, False
        if transport is None or transport.is_closing():
            return
        while not self._blocked and len(self._held) - at >= 2:
            length = int.from_bytes(self._held[at : at + 2])
            if length == 0 or length > LARGEST:
                self._malformed()
                return
            if len(self._held) - at - 2 < length:
                break
            message = bytes(self._held[at + 2 : at + 2 + length])
            at += 2 + length
            response = self._responder.respond(message, self._address, tcp=True)
            if response is None:
                self._malformed()
                return
            answered = True
            transport.write(len(response).to_bytes(2) + response)
        del self._held[:at]
        if answered:  # a client that sends its query byte by byte is idle
            self._wait()

    def _malformed(self) -> None:
        """What comes next cannot be told: end."""
        self._counts["malformed"] += 1
        self._held.clear()
        self.end()

    def _wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(self._idle, self._time_out)

    def _time_out(self) -> None:
        self._counts["idle"] += 1
        if self._transport is not None:
            self._transport.abort()
