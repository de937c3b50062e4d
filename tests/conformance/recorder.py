"""A server that takes whatever comes for requests and remembers it: what it counts is what a proxy let through."""

import contextlib
import re
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from tests.support.raw_server import LIMIT, Acceptor

PROBE = b"/probe/"
HELD = b"/held/"
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server sends instead of an echo, and what it does then; `early`: before it reads the body."""

    data: bytes
    then: Literal["keep", "close", "reset"] = "keep"
    early: bool = False


@dataclass(slots=True)
class Arrival:
    """A request as it came: the body with its framing; `whole` once its end was there."""

    connection: int
    head: bytes
    body: bytes = b""
    whole: bool = False

    @property
    def line(self) -> bytes:
        """The request line."""
        return self.head.partition(b"\r\n")[0]

    @property
    def fields(self) -> list[bytes]:
        """The header lines."""
        return self.head.rstrip(b"\r\n").split(b"\r\n")[1:]

    @property
    def target(self) -> bytes:
        """The second word of the request line, empty without one."""
        words = self.line.split(b" ")
        return words[1] if len(words) > 1 else b""


class _Ended(Exception):
    """The other side has closed."""


class _Connection:
    """Requests of one connection, one after the other, read as leniently as a careless server would."""

    def __init__(self, recorder: "Recorder", number: int, sock: socket.socket) -> None:
        self._recorder = recorder
        self._number = number
        self._socket = sock
        self._data = b""

    def _more(self) -> None:
        piece = self._socket.recv(1 << 18)
        if not piece:
            raise _Ended
        self._data += piece

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            self._more()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def _until(self, end: bytes) -> bytes:
        while end not in self._data:
            self._more()
        return self._take(self._data.index(end) + len(end))

    def serve(self) -> None:
        """Answer until one side closes. Raises OSError, ValueError, _Ended."""
        while True:
            try:
                head = self._until(b"\r\n\r\n")
            except _Ended:
                if self._data:
                    self._recorder.arrivals.append(Arrival(self._number, self._data))
                raise
            arrival = Arrival(self._number, head)
            self._recorder.arrivals.append(arrival)
            reply = self._recorder.reply_to(arrival)
            if reply.early:
                self._socket.sendall(reply.data)
            self._body(arrival)
            arrival.whole = True
            if not reply.early:
                self._socket.sendall(reply.data)
            if reply.then == "keep":
                continue
            if reply.then == "reset":
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return

    def _body(self, arrival: Arrival) -> None:
        length = LENGTH.search(arrival.head)
        if CHUNKED.search(arrival.head):
            size = 1
            while size:
                line = self._until(b"\r\n")
                size = int(line.partition(b";")[0], 16)
                arrival.body += line
                arrival.body += self._take(size + 2) if size else b""
            while (line := self._until(b"\r\n")) != b"\r\n":
                arrival.body += line
            arrival.body += line
        elif length:
            arrival.body = self._take(int(length[1]))


class Recorder(Acceptor):
    """Answers each request with its method and target, or with `reply`; probes always get their echo.

    `arrivals` has what came since the last `clear`, connections that were only opened left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[Arrival] = []
        self.reply: Reply | None = None

    def clear(self, reply: Reply | None = None) -> None:
        """Forget what came, and answer with `reply` from now on."""
        self.arrivals = []
        self.reply = reply

    def reply_to(self, arrival: Arrival) -> Reply:
        """Return the answer to a request."""
        if self.reply and not arrival.target.startswith(PROBE):
            return self.reply
        method = arrival.line.partition(b" ")[0]
        body = method + b" " + arrival.target
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        return Reply(head if method == b"HEAD" else head + body)

    def requests(self) -> list[Arrival]:
        """Return what came and is no probe, unfinished requests included."""
        return [arrival for arrival in self.arrivals if not arrival.target.startswith(PROBE)]

    def serve(self, connection: socket.socket, number: int) -> None:
        """Take what comes."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ValueError, _Ended):
            _Connection(self, number, connection).serve()


class Holding(Recorder):
    """Keeps the answers to HELD targets back until `let_go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def reply_to(self, arrival: Arrival) -> Reply:
        """Return the answer, when it may be given."""
        if arrival.target.startswith(HELD):
            assert self.let_go.wait(LIMIT)
        return super().reply_to(arrival)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go.set()
        super().__exit__(kind, error, trace)
