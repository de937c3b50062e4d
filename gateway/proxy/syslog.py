"""Access-log lines on their way to a syslog receiver (RFC 5424), which can neither block nor delay traffic.

Over UDP each line is a datagram (RFC 5426). Over TCP lines have octet counting (RFC 6587 section 3.4.1); what the
kernel does not take at once waits, up to WAITING bytes, and a lost connection is made again after growing pauses.
Lines for which there is no room are lost, and counted. What the kernel had taken when a connection broke may be lost,
too, and is not counted.
"""

import asyncio
import errno
import logging
import os
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.config.access_log import Syslog
from gateway.config.address import Target

log = logging.getLogger(__name__)

WAITING: Final = 1 << 20
"""Bytes that wait for a receiver over TCP."""
DATAGRAM: Final = 8192
"""Longest message over UDP, in bytes; longer ones are truncated. It is what rsyslog takes by default."""
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
"""Seconds between attempts to connect."""
STEP: Final = 0.02
"""Seconds between two looks at what waits still."""
CONNECT: Final = 5.0
"""Seconds in which a connection must be there."""

Lost = Callable[[int], None]
"""Counts lines that could not be sent."""


def prefix(model: Syslog, node: str) -> tuple[str, str]:
    """What stands before and after the time of a message, up to its text (RFC 5424 section 6)."""
    host = "".join(letter if "!" <= letter <= "~" else "-" for letter in node)[:255] or "-"
    return f"<{model.priority}>1 ", f" {host} {model.app} {os.getpid()} access - "


class Sender(ABC):
    """Sends lines; `take` and `close` never block. `lost` is called with numbers of lines."""

    def __init__(self, target: Target, lost: Lost) -> None:
        self._target = target
        self._lost = lost
        self._failing = False

    @abstractmethod
    def take(self, data: bytes) -> None:
        """Send complete lines."""

    @abstractmethod
    async def close(self, seconds: float) -> None:
        """Send what waits within `seconds`, then release everything."""

    def _lose(self, count: int, why: str) -> None:
        self._lost(count)
        if not self._failing:
            self._failing = True
            log.error(
                "cannot write the access log to %s: %s; lines are lost until it can be written", self._target, why
            )

    def _works(self) -> None:
        if self._failing:
            self._failing = False
            log.warning("the access log can be written to %s again", self._target)


class Datagrams(Sender):
    """Over UDP. That nobody listens shows only in the error of a later datagram, and not always."""

    def __init__(self, target: Target, lost: Lost) -> None:
        super().__init__(target, lost)
        self._socket: socket.socket | None = None

    def take(self, data: bytes) -> None:
        """Send each line as a datagram."""
        lines = data.splitlines()
        refused = False
        for number, line in enumerate(lines):
            try:
                refused |= self._send(line[:DATAGRAM])
            except OSError as error:
                self._lose(len(lines) - number, error.strerror or str(error))
                return
        if not refused:
            self._works()

    def _send(self, message: bytes) -> bool:
        """Send a datagram; whether the kernel tells that an earlier one was refused, which is counted."""
        if self._socket is None:
            self._socket = socket.socket(_family(self._target), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.connect((self._target.host, self._target.port))
        try:
            self._socket.send(message)
        except ConnectionRefusedError:
            self._lose(1, "there is no receiver")
            self._socket.send(message)  # the error was the earlier one's: this one has not been sent
            return True
        return False

    async def close(self, seconds: float) -> None:  # noqa: ARG002 - nothing waits
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Stream(Sender):
    """Over TCP."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Target, lost: Lost) -> None:
        super().__init__(target, lost)
        self._loop = loop
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._sent = 0  # bytes of the first one that the kernel has taken
        self._socket: socket.socket | None = None
        self._connected = False
        self._pause = FIRST_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._connect()

    def take(self, data: bytes) -> None:
        """Queue each line, as far as there is room."""
        lines = data.splitlines()
        for number, line in enumerate(lines):
            frame = b"%d %s" % (len(line), line)
            if self._size + len(frame) > WAITING:
                why = "its receiver is too slow" if self._connected else "there is no connection"
                self._lose(len(lines) - number, why)
                break
            self._waiting.append(frame)
            self._size += len(frame)
        if self._connected:
            self._write()

    async def close(self, seconds: float) -> None:
        """Send what waits within `seconds`; what is left is lost."""
        ends = self._loop.time() + seconds
        while self._waiting and self._loop.time() < ends:  # noqa: ASYNC110 - rare
            await asyncio.sleep(STEP)
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting:
            self._lose(len(self._waiting), "the gateway stops writing to it")
        self._forget()

    def _connect(self) -> None:
        """Begin a connection; an event or a timer ends the attempt."""
        self._timer = None
        try:
            self._socket = socket.socket(_family(self._target), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            failed = self._socket.connect_ex((self._target.host, self._target.port))
        except OSError as error:
            failed = error.errno or errno.EIO
        if failed not in (0, errno.EINPROGRESS) or self._socket is None:
            self._broken(os.strerror(failed))
            return
        self._loop.add_writer(self._socket, self._established)
        self._timer = self._loop.call_later(CONNECT, self._broken, "no answer")

    def _established(self) -> None:
        if self._socket is None:
            return
        self._loop.remove_writer(self._socket)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if failed := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._broken(os.strerror(failed))
            return
        self._connected = True
        self._loop.add_reader(self._socket, self._heard)
        self._works()
        self._write()

    def _heard(self) -> None:
        """A receiver says nothing: these bytes are ignored, and an end or a failure ends the connection."""
        if self._socket is None:
            return
        try:
            if not self._socket.recv(4096):
                self._broken("the receiver has closed the connection")
        except BlockingIOError:
            pass
        except OSError as error:
            self._broken(error.strerror or str(error))

    def _write(self) -> None:
        """Write as much as the kernel takes."""
        if self._socket is None:
            return
        try:
            while self._waiting:
                first = self._waiting[0]
                self._sent += self._socket.send(memoryview(first)[self._sent :])
                if self._sent < len(first):
                    break
                self._waiting.popleft()
                self._size -= len(first)
                self._sent = 0
                self._pause = FIRST_PAUSE
        except BlockingIOError:
            pass
        except OSError as error:
            self._broken(error.strerror or str(error))
            return
        if self._waiting:
            self._loop.add_writer(self._socket, self._write)
        else:
            self._loop.remove_writer(self._socket)
            self._works()

    def _broken(self, why: str) -> None:
        """Connect again after a pause. The line that was sent in part is sent as a whole then."""
        if not self._failing:
            log.warning("access log: no connection to %s: %s; it is tried again", self._target, why)
        self._failing = True
        self._forget()
        if not self._closed:
            self._timer = self._loop.call_later(self._pause, self._connect)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _forget(self) -> None:
        self._connected = False
        self._sent = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None


def sender(loop: asyncio.AbstractEventLoop, target: Target, lost: Lost) -> Sender:
    """Make the sender for a receiver."""
    return Datagrams(target, lost) if target.transport == "udp" else Stream(loop, target, lost)


def _family(target: Target) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in target.host else socket.AF_INET
