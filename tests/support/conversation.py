"""A connection that sends and reads at the same time, in one thread: for clients that the other side may cut short."""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable

from tests.support.closing import Closing
from tests.support.raw import LIMIT

PIECE = 1 << 16
AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Conversation(Closing):
    """Sends what the other side takes and keeps what it says in `data`, whenever it is asked to `pump` or `wait`.

    closed: the other side has ended the connection; reset: it did so without a FIN (under TLS: without close_notify).
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(0.0)
        self.socket = connection
        self.data = bytearray()
        self.closed = self.reset = False
        self._unsent = bytearray()

    def send(self, data: bytes) -> None:
        """Send as much as the kernel takes now; the rest goes out while the conversation is pumped."""
        self._unsent += data
        self.pump()

    def pump(self) -> bool:
        """Send and read what is possible without waiting; whether there was anything."""
        moved = False
        while self._unsent:
            try:
                sent = self.socket.send(self._unsent[:PIECE])
            except AGAIN:
                break
            except OSError:  # it has closed: what it said before is still to be read
                self._unsent.clear()
                break
            del self._unsent[:sent]
            moved = True
        while not self.closed:
            try:
                piece = self.socket.recv(PIECE)
            except AGAIN:
                break
            except OSError:
                self.closed = self.reset = moved = True
                break
            self.data += piece
            self.closed = not piece
            moved = True
        return moved

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Pump until `holds()`. Raises AssertionError, with what was said so far, after LIMIT seconds."""
        end = time.monotonic() + LIMIT
        while not holds():
            left = end - time.monotonic()
            assert left > 0, f"not within {LIMIT:g} s: {what}; heard {bytes(self.data[-500:])!r}"
            if not self.pump():
                sending = [self.socket] if self._unsent else []
                select.select([] if self.closed else [self.socket], sending, [], min(left, 0.05))

    def hears_nothing(self) -> bool:
        """Whether the other side has neither said anything since the last look nor ended the connection."""
        before = len(self.data)
        self.pump()
        return len(self.data) == before and not self.closed

    def close(self) -> None:
        """Close at once."""
        self.socket.close()


def close_all(conversations: Iterable[Conversation]) -> None:
    """Close them, whatever state they are in."""
    for conversation in conversations:
        with contextlib.suppress(OSError):
            conversation.close()
