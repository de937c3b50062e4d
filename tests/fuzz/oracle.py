"""What must hold of a run: requests and answers by number, and a strict reader of both.

A good request names its number in its path, in a header and in every line of its body; an answer of a server names
the request and itself. So a byte that went astray is seen where it arrives.
"""

import re
from dataclasses import dataclass, field

ONCE = frozenset({b"POST"})
"""Methods that a server must get once at most: the gateway repeats none of them by default."""


class Violation(AssertionError):
    """Something that must hold does not. The text up to the first colon is its kind."""

    @property
    def kind(self) -> str:
        """What findings of one fault have in common."""
        return str(self).partition(":")[0]


def pattern(name: str, size: int) -> bytes:
    """Return a body of `size` bytes that says at every place whose it is."""
    line = f"{name};".encode()
    return (line * (size // len(line) + 1))[:size]


@dataclass(slots=True, eq=False)
class Request:
    """What a client sends: a good request, or one that must be refused."""

    number: int
    method: bytes
    target: bytes
    wire: bytes
    body: bytes
    began: int
    """On the world's clock, ms; so is every time."""
    trouble: int
    refused: bool = False
    """It is malformed or too large: no server may get all of it."""
    headless: bool = False
    """Already its head is malformed: no server may get a byte of it."""
    upgrade: bool = False
    minor: int = 1
    end: int = 0
    """Where it ends in what the client sends."""
    heads: int = 0
    """How often servers got its head."""
    faulted: bool = False
    """A server failed it."""
    dead: bool = False
    """It was sent behind the end of what the gateway may read."""
    tainted: bool = False
    """Arbitrary bytes were put into it after its head."""
    answered: bool = False


@dataclass(slots=True, eq=False)
class Answer:
    """What a server sends for a request."""

    number: int
    request: Request
    status: int
    body: bytes
    valid: bool = True
    """It is well-formed and not cut: a client may get it as a whole."""
    written: bool = False
    passed: int = 0
    """How many clients got its head."""
    by_end: bool = False
    """It ends with the connection."""


class Chunks:
    """Reads a chunked body strictly; `done` after its last line. Raises Violation."""

    _SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
    _TRAILER = re.compile(rb"[A-Za-z0-9-]+: ?[^\r\n\0]*")

    def __init__(self) -> None:
        self.left = 0
        self.done = False
        self._state = "size"

    def feed(self, data: bytearray) -> bytes:
        """Take what is complete from the front of `data`; return the payload in it."""
        found = b""
        while data and not self.done:
            if self._state == "data":
                piece = bytes(data[: self.left])
                del data[: self.left]
                self.left -= len(piece)
                found += piece
                if self.left == 0:
                    self._state = "gap"
                continue
            line, end, _ = data.partition(b"\r\n")
            if not end:
                if len(line) > 200:
                    raise Violation(f"chunk line without an end: {bytes(line[:40])!r}")
                break
            del data[: len(line) + 2]
            self._line(bytes(line))
        return found

    def _line(self, line: bytes) -> None:
        if self._state == "gap":
            if line:
                raise Violation(f"chunk without its line end: {line!r}")
            self._state = "size"
        elif self._state == "size":
            if not self._SIZE.fullmatch(line):
                raise Violation(f"malformed chunk size: {line!r}")
            self.left = int(line, 16)
            self._state = "data" if self.left else "trailer"
        elif not line:
            self.done = True
        elif not self._TRAILER.fullmatch(line):
            raise Violation(f"malformed trailer: {line!r}")


_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [\x20-\x7e]*")
_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[\x21-\x7e]*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")


@dataclass(slots=True)
class Head:
    """The head of a message: `start` is the status, or method and target."""

    start: tuple[bytes, ...]
    fields: dict[bytes, bytes]
    length: int | None = None
    chunked: bool = False
    close: bool = False


def take_head(data: bytearray, *, response: bool) -> Head | None:
    """Take a head from the front of `data`, None while it is incomplete. Raises Violation."""
    at = data.find(b"\r\n\r\n")
    if at < 0:
        if len(data) > 100_000:
            raise Violation(f"a head without an end: {bytes(data[:80])!r}")
        return None
    lines = bytes(data[:at]).split(b"\r\n")
    match = (_STATUS if response else _REQUEST).fullmatch(lines[0])
    if match is None:
        raise Violation(f"malformed first line of a {'response' if response else 'request'}: {bytes(data[:120])!r}")
    fields: dict[bytes, bytes] = {}
    for line in lines[1:]:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise Violation(f"malformed header line: {line!r}")
        name = found[1].lower()
        if name in fields and name in {b"content-length", b"transfer-encoding", b"host", b"x-id", b"x-fuzz"}:
            raise Violation(f"header twice: {name!r}")
        fields[name] = found[2]
    del data[: at + 4]
    head = Head(match.groups(), fields)
    head.close = b"close" in fields.get(b"connection", b"").lower()
    if (length := fields.get(b"content-length")) is not None:
        if not length.isdigit():
            raise Violation(f"malformed length: {length!r}")
        head.length = int(length)
    if (coding := fields.get(b"transfer-encoding")) is not None:
        if coding != b"chunked" or head.length is not None:
            raise Violation(f"ambiguous framing: {fields!r}")
        head.chunked = True
    return head


@dataclass(slots=True)
class Oracle:
    """The requests and answers of a run, and how it went."""

    requests: dict[int, Request] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    features: set[str] = field(default_factory=set)
    clock: int = 0
    trouble: int = 0
    """Counts what may fail any request: a server that goes, a worker that drains."""
    wild: bool = False
    """Bytes were sent of which this does not know what they mean."""
    loose: bool = False
    """Such bytes were put into what is malformed, which may have mended it."""
    attempts: int = 0
    """How often a request may be sent."""

    def at_server(self, head: Head) -> Request | None:
        """A server has got a head: return its request, None if it is made of arbitrary bytes. Raises Violation."""
        method, target = head.start
        number = head.fields.get(b"x-id", b"")
        request = self.requests.get(int(number)) if number.isdigit() and len(number) < 9 else None
        if request is None or request.headless or request.target != target or request.method != method:
            if self.wild and (request is None or not request.headless or self.loose):
                return None
            raise Violation(f"a server got what is no request: {head.start!r} {number!r}")
        if request.dead:
            raise Violation(f"a server got a request from behind the end: {request.number}")
        request.heads += 1
        if request.heads > (1 if method in ONCE else self.attempts):
            raise Violation(f"a request was sent too often: {method.decode()} {request.number}, {request.heads} times")
        return request

    def at_client(self, head: Head, request: Request) -> Answer | None:
        """A client has got the head of the answer to `request`; None: it is the gateway's own. Raises Violation."""
        name = head.fields.get(b"x-fuzz")
        if name is None:
            return None
        answer = self.answers.get(int(name)) if name.isdigit() else None
        if answer is None:
            raise Violation(f"an answer that no request was given: {name!r} for {request.number}")
        if answer.request is not request:
            raise Violation(f"the answer to another request: {answer.request.number} for {request.number}")
        if int(head.start[0]) != answer.status:
            raise Violation(f"another status: {head.start[0]!r} for {answer.status}")
        answer.passed += 1
        if answer.passed > 1:
            raise Violation(f"an answer came twice: {request.number}")
        return answer
