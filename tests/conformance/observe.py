"""A client that sends a case's bytes and takes apart whatever comes back."""

import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.conformance.recorder import PROBE

LAST = b"GET /probe/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
NO_BODY = {204, 304}


@dataclass(frozen=True, slots=True)
class Answer:
    """A final response: `whole` if a client can take it for complete."""

    status: int
    head: bytes
    body: bytes
    whole: bool


@dataclass(frozen=True, slots=True)
class Observation:
    """All that a connection gave: `closed` by the other side, or silent until the time was up; `reset` if so closed."""

    answers: tuple[Answer, ...]
    data: bytes
    closed: bool
    reset: bool

    @property
    def statuses(self) -> tuple[int, ...]:
        """The status codes in order."""
        return tuple(answer.status for answer in self.answers)


def converse(
    port: int, data: bytes, methods: Iterable[str] = ("GET",), quiet: float = 5.0, end: bytes | None = None
) -> Observation:
    """Send `data` to a local port and read until the other side closes, or says nothing for `quiet` seconds.

    `methods` are those of the requests in `data`, in order (GET when there are no more). With `end`, what ends with
    those bytes is enough. Raises OSError if no process listens.
    """
    received = bytearray()
    closed = reset = False
    with socket.create_connection(("127.0.0.1", port), timeout=quiet) as client:
        # One that refuses the beginning of a long request may be gone before its end.
        with contextlib.suppress(OSError):
            client.sendall(data)
        try:
            while True:
                piece = client.recv(1 << 18)
                if not piece:
                    closed = True
                    break
                received += piece
                if end and received.endswith(end):
                    break
        except ConnectionResetError:
            closed = reset = True
        except TimeoutError:
            pass
    raw = bytes(received)
    return Observation(tuple(split(raw, methods, ended=closed and not reset)), raw, closed, reset)


def split(data: bytes, methods: Iterable[str], *, ended: bool) -> Iterator[Answer]:
    """Yield the final responses in `data`; `ended`: the connection closed in good order after it."""
    method = iter(methods)
    while data:
        head, gap, rest = data.partition(b"\r\n\r\n")
        words = head.split(b" ", 2)
        if not gap or len(words) < 2 or not head.startswith(b"HTTP/1.") or not words[1].isdigit():
            yield Answer(0, data, b"", whole=False)
            return
        status = int(words[1])
        if 100 <= status < 200 and status != 101:
            data = rest
            continue
        fields = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields[name.strip().lower()] = value.strip()
        if status == 101:
            yield Answer(status, head, rest, whole=True)
            return
        if next(method, "GET") == "HEAD" or status in NO_BODY:
            body, whole, data = b"", True, rest
        elif fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            body, whole, data = dechunk(rest)
        elif b"content-length" in fields:
            size = int(fields[b"content-length"])
            body, whole, data = rest[:size], len(rest) >= size, rest[size:]
        else:
            body, whole, data = rest, ended, b""
        yield Answer(status, head, body, whole)


def dechunk(data: bytes) -> tuple[bytes, bool, bytes]:
    """Return what the chunks hold, whether the end was there, and what follows it."""
    body = b""
    while True:
        line, gap, data = data.partition(b"\r\n")
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            return body, False, b""
        if not gap:
            return body, False, b""
        if size == 0:
            break
        body += data[:size]
        if data[size : size + 2] != b"\r\n":
            return body, False, b""
        data = data[size + 2 :]
    while True:
        line, gap, data = data.partition(b"\r\n")
        if not gap:
            return body, False, b""
        if not line:
            return body, True, data


def unharmed(port: int, number: int) -> bool:
    """Tell whether two fresh clients in a row get the answers to their own requests."""
    for name in (f"{number}/a", f"{number}/b"):
        target = PROBE + name.encode()
        # The server side of what came before may still be closing: what counts is the answer, not how soon it comes.
        data = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        seen = converse(port, data, end=b"GET " + target)
        if seen.statuses != (200,) or seen.answers[0].body != b"GET " + target or not seen.answers[0].whole:
            return False
    return True
