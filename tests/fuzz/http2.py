"""A client of the fuzzed gateway that speaks HTTP/2: several streams at a time, whose answers may come in any order.

It writes its frames itself, good ones and others, keeps to the windows that it was given, and checks those it gives.
"""

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpack import Decoder, HPACKError

from tests.fuzz.oracle import Answer, Head, Request, Violation
from tests.fuzz.peers import Client, TlsClient

if TYPE_CHECKING:
    from tests.fuzz.world import World

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 7, 8, 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME = 16384
NEVER = 1 << 60
WINDOW = 65535
MOST = 30
"""Streams at a time."""
BUDGET = 1000
"""Points that a client may spend on frames that request nothing: half of what the gateway gives it."""
WINDOWS = (WINDOW, WINDOW, 0, 1, 300, 5000, 1 << 20)

Fields = list[tuple[bytes, bytes]]


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """Return a frame (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def block(fields: Fields) -> bytes:
    """Return a header block of literals, which no table has to know (RFC 7541 section 6.2.2)."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes((len(value),)) + value
    rest, size = len(value) - 127, [127]
    while rest >= 128:
        size.append(rest % 128 + 128)
        rest //= 128
    return bytes((*size, rest)) + value


def _head(number: int, method: bytes = b"GET", path: bytes = b"/bad/%d", *fields: tuple[bytes, bytes]) -> Fields:
    path = path.replace(b"%d", b"%d" % number)
    pseudo = [(b":method", method), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path)]
    return [*pseudo, (b"x-id", b"%d" % number), *fields]


def _stream_errors(number: int, stream: int) -> tuple[bytes, ...]:
    """Requests that are refused, each on a stream of its own."""

    def whole(fields: Fields) -> bytes:
        return frame(HEADERS, block(fields), END_HEADERS | END_STREAM, stream)

    def begun(fields: Fields, *rest: bytes) -> bytes:
        return frame(HEADERS, block(fields), END_HEADERS, stream) + b"".join(rest)

    post = b"POST"
    return (
        whole([*_head(number), (b"X-Y", b"z")]),
        whole([*_head(number), (b"connection", b"close")]),
        whole([*_head(number), (b"transfer-encoding", b"chunked")]),
        whole([*_head(number), (b"host", b"b")]),
        whole([*_head(number), (b":path", b"/bad/0")]),
        whole([*_head(number), (b"a", b"b\r\nc: d")]),
        whole(_head(number)[1:]),
        whole([*_head(number)[:3], (b":path", b"/bad/0"), (b":x", b"y")]),
        whole([*_head(number), (b"content-length", b"5")]),
        whole([*_head(number, b"CONNECT"), (b":protocol", b"websocket")]),
        whole([(b":method", b"CONNECT"), (b":authority", b"a:1"), (b"x-id", b"%d" % number)]),
        whole([*_head(number), *[(b"a", b"b")] * 300]),
        begun([*_head(number, post), (b"te", b"gzip")]),
        begun([*_head(number, post), (b"content-length", b"x")], frame(DATA, b"/bad/", 0, stream)),
    )


def _connection_errors(number: int, stream: int) -> tuple[bytes, ...]:
    """What ends the connection."""
    return (
        frame(PING, bytes(8), 0, stream),
        frame(PING, bytes(7)),
        frame(DATA, b"/bad/", END_STREAM, 0),
        frame(DATA, b"/bad/", END_STREAM, stream),
        frame(HEADERS, block(_head(number)), END_HEADERS | END_STREAM, stream + 1),
        frame(HEADERS, b"\xff" * 9, END_HEADERS | END_STREAM, stream),
        frame(HEADERS, block(_head(number)), END_STREAM, stream) + frame(PING, bytes(8)),
        frame(CONTINUATION, b"", END_HEADERS, stream),
        frame(PUSH_PROMISE, bytes(4), END_HEADERS, stream),
        frame(SETTINGS, bytes(5)),
        frame(SETTINGS, struct.pack(">HI", 4, 1 << 31)),
        frame(WINDOW_UPDATE, struct.pack(">I", 0x7FFFFFFF)),
        frame(WINDOW_UPDATE, bytes(4)),
        frame(RST_STREAM, bytes(4), 0, stream),
        frame(DATA, bytes(FRAME + 1), 0, stream),
        frame(HEADERS, b"\xff" + block(_head(number)), END_HEADERS | PADDED, stream),
    )


@dataclass(slots=True, eq=False)
class Stream:
    """One request, and what has come of it."""

    number: int
    request: Request
    todo: bytes
    """Of the request's body."""
    trailers: bool = False
    window: int = WINDOW
    """What may be sent."""
    room: int = WINDOW
    """What may come."""
    said: bool = False
    """The whole request is on its way."""
    head: Head | None = None
    answer: Answer | None = None
    body: int = 0
    bodyless: bool = False
    over: bool = False
    left: bool = False
    """This side has reset it: whatever comes means nothing."""


class Http2Client(Client):
    """A client, and what it may get on each of its streams: the answer to its request, whole, or a reset."""

    def __init__(self, world: "World", sock: socket.socket, *, window: int = WINDOW) -> None:
        super().__init__(world, sock)
        self.streams: dict[int, Stream] = {}
        self.last = -1
        self.decoder = Decoder()
        self.window = WINDOW
        self.initial = WINDOW
        """Of streams, as the gateway has set it."""
        self.room = WINDOW
        self.given_initial = window
        self.pending: list[int] = []
        """Smaller windows that the gateway has not acknowledged."""
        self.takes = True
        self.spent = 0
        self.ruined = False
        """It has sent what ends the connection."""
        self.leaving = False
        """The gateway has sent GOAWAY."""
        self.greeted = False
        """The gateway has sent its settings: it has seen that this is HTTP/2."""
        self.held_since = 0
        """When it began to hold back the end of a header block."""
        self.slow = False
        """It has held one back for as long as that may take: the gateway may end the connection."""
        self.block: bytes | None = None
        self.say(PREFACE + frame(SETTINGS, struct.pack(">HI", 4, window)))
        self.pending.append(window)

    # ------------------------------------------------------------------------------------------------------- sending

    @property
    def open(self) -> list[Stream]:
        """Streams whose answer is due."""
        return [stream for stream in self.streams.values() if not stream.over and not stream.left]

    @property
    def speaks(self) -> bool:
        return super().speaks and not self.ruined

    @property
    def due(self) -> bool:
        waits = self.ruined or any(stream.said for stream in self.open)
        return self.live and self.wild is None and not self.refused and waits

    def ask(self, request: Request, *, trailers: bool = False, pieces: int = 1, hold: int = 0) -> bool:
        """Open a stream for a request; whether that may be."""
        if self.leaving or len(self.open) >= MOST:
            return False
        self.last += 2
        stream = Stream(
            self.last, request, request.body, trailers, self.initial, max(self.given_initial, *self.pending, 0)
        )
        self.streams[stream.number] = stream
        request.end = NEVER
        fields = _head(request.number, request.method, request.target)
        bare = not request.body and not trailers and request.method not in {b"POST", b"PUT"}
        if not bare and not trailers:
            fields.append((b"content-length", b"%d" % len(request.body)))
        packed = block(fields)
        step = -(-len(packed) // pieces)
        parts = [packed[at : at + step] for at in range(0, len(packed), step)]
        wire = b""
        for at, part in enumerate(parts):
            flags = END_HEADERS if at == len(parts) - 1 else 0
            if at == 0:
                wire += frame(HEADERS, part, flags | (END_STREAM if bare else 0), stream.number)
            else:
                wire += frame(CONTINUATION, part, flags, stream.number)
        if hold:
            self.held_since = self.oracle.clock
        self.say(wire, hold=hold)
        if bare:
            stream.said = True
            request.end = self.length
        self.pour()
        return True

    def pour(self) -> None:
        """Send what windows allow."""
        for stream in list(self.streams.values()):
            if stream.said or stream.left or stream.over:
                continue
            while not stream.said:
                size = min(len(stream.todo), stream.window, self.window, FRAME)
                if stream.todo and size <= 0:
                    break
                piece, stream.todo = stream.todo[:size], stream.todo[size:]
                stream.window -= size
                self.window -= size
                ends = not stream.todo
                if piece or not stream.trailers:
                    last = ends and not stream.trailers
                    self._more(frame(DATA, piece, END_STREAM if last else 0, stream.number))
                if ends and stream.trailers:
                    self._more(frame(HEADERS, block([(b"x-t", b"t")]), END_HEADERS | END_STREAM, stream.number))
                if ends:
                    stream.said = True
                    stream.request.end = self.length

    def _more(self, data: bytes) -> None:
        """Send behind what is held back."""
        if self.held:
            self.out += data
            self.held += len(data)
            self.length += len(data)
        else:
            self.say(data)

    def spend(self, points: int, data: bytes) -> bool:
        """Send frames that request nothing, if there are points left."""
        if self.spent + points > BUDGET:
            return False
        self.spent += points
        self._more(data)
        return True

    def spoil(self, which: int) -> str:
        """Send a request that is refused, or what ends the connection."""
        self.last += 2
        number = self.world.numbers + 1
        table = _stream_errors(number, self.last)
        if which % 3 == 0:
            table = _connection_errors(number, self.last)
        index = (which // 3) % len(table)
        if which % 3 and self.spent + 20 > BUDGET:
            return ""
        request = self.world.malformed(self, b"", headless=True)
        self.spent += 20
        stream = Stream(self.last, request, b"", said=True, left=which % 3 == 0)
        if which % 3:
            self.streams[self.last] = stream
        else:
            self.ruined = True
            for other in self.open:
                other.request.tainted = True
        self.say(table[index])
        request.end = self.length
        return f"{which % 3 == 0}{index}"

    def play(self, kind: int, how: int) -> str:
        """Send a frame that requests nothing."""
        found = self.open
        stream = found[how % len(found)] if found else None
        match kind % 8:
            case 0 if stream is not None and self.spend(
                10, frame(RST_STREAM, struct.pack(">I", CANCEL), 0, stream.number)
            ):
                stream.left = True
            case 1:
                self.spend(1, frame(PING, bytes(8)))
            case 2:
                self._set_window(WINDOWS[how % len(WINDOWS)])
            case 3 if self.room < 1 << 24 and self.spend(1, frame(WINDOW_UPDATE, struct.pack(">I", 1 + how))):
                self.room += 1 + how
            case 4:
                self.spend(1, frame(PRIORITY, struct.pack(">IB", 0, how), 0, max(1, self.last + 2 * (how % 4))))
            case 5:
                self.takes = not self.takes
            case 6 if stream is not None and self.spend(
                1, frame(WINDOW_UPDATE, struct.pack(">I", 1 + how), 0, stream.number)
            ):
                stream.room += 1 + how
            case 7:
                self.spend(1, frame(0xBB, b"x" * how, 0xFF, max(0, self.last)))
        return f"{kind % 8}"

    def _set_window(self, size: int) -> None:
        if not self.spend(5, frame(SETTINGS, struct.pack(">HI", 4, size))):
            return
        self.pending.append(size)
        self._grow(size - self.given_initial if size > self.given_initial else 0)
        self.given_initial = max(size, self.given_initial)

    def _grow(self, by: int) -> None:
        for stream in self.streams.values():
            stream.room += by

    def relax(self) -> None:
        """Take whatever comes from now on."""
        self.takes = True
        if not self.speaks or self.wild is not None:
            return
        self._more(frame(SETTINGS, struct.pack(">HI", 4, 1 << 20)))
        self.pending.append(1 << 20)
        self._grow((1 << 20) - self.given_initial)
        self.given_initial = 1 << 20
        self._credit(0, 1 << 20)

    def _credit(self, stream: int, size: int) -> None:
        if stream == 0:
            self.room += size
        else:
            self.streams[stream].room += size
        self._more(frame(WINDOW_UPDATE, struct.pack(">I", size), 0, stream))

    # ------------------------------------------------------------------------------------------------------ receiving

    def take(self) -> None:
        while len(self.got) >= 9:
            if self.wild is not None or self.refused:
                self.got.clear()
                return
            size = int.from_bytes(self.got[:3], "big")
            if size > FRAME:
                raise Violation(f"a frame that is too large: {bytes(self.got[:9])!r}")
            if len(self.got) < 9 + size:
                return
            kind, flags, stream = self.got[3], self.got[4], int.from_bytes(self.got[5:9], "big")
            payload = bytes(self.got[9 : 9 + size])
            del self.got[: 9 + size]
            if self.block is not None and kind != CONTINUATION:
                raise Violation(f"a frame within a header block: {kind}")
            self._frame(kind, flags, stream, payload)

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        match kind:
            case 0:  # DATA
                self._data(self._known(number, kind), payload, ends=flags & END_STREAM != 0)
            case 1 | 9:  # HEADERS, CONTINUATION
                self.block = (self.block or b"") + payload
                if flags & END_HEADERS:
                    whole, self.block = self.block, None
                    self._headers(number, whole, ends=flags & END_STREAM != 0)
            case 3:  # RST_STREAM
                self._reset(self._known(number, kind), int.from_bytes(payload, "big"))
            case 4:  # SETTINGS
                self._settings(flags, payload)
            case 6:  # PING
                if not flags & ACK:
                    raise Violation("a PING of the gateway")
            case 7:  # GOAWAY
                self._goaway(*struct.unpack(">II", payload[:8]))
            case 8:  # WINDOW_UPDATE
                size = int.from_bytes(payload, "big")
                if number == 0:
                    self.window += size
                else:
                    self._known(number, kind).window += size
                self.pour()
            case _:
                raise Violation(f"a frame that no client expects: {kind}")

    def _known(self, number: int, kind: int) -> Stream:
        stream = self.streams.get(number)
        if stream is None:
            if self.ruined:
                return Stream(number, Request(-1, b"GET", b"", b"", b"", 0, 0), b"", left=True)
            raise Violation(f"a frame of a stream that is none: {kind} on {number}")
        return stream

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            size = self.pending.pop(0) if self.pending else self.given_initial
            highest = max([size, *self.pending])
            self._grow(highest - self.given_initial)
            self.given_initial = highest
            return
        self.greeted = True
        for at in range(0, len(payload), 6):
            name, value = struct.unpack(">HI", payload[at : at + 6])
            if name == 4:
                for stream in self.streams.values():
                    stream.window += value - self.initial
                self.initial = value
        self._more(frame(SETTINGS, b"", ACK))
        self.pour()

    def _goaway(self, last: int, code: int) -> None:
        if code != NO_ERROR and not self.ruined and not (code == ENHANCE_YOUR_CALM and self.slow):
            raise Violation(f"a connection of HTTP/2 was ended: {code}, {self.spent} points")
        self.leaving = True
        for stream in self.streams.values():
            if stream.number > last and not self.ruined:
                if stream.request.heads:
                    raise Violation(f"a request behind GOAWAY got to a server: {stream.request.number}")
                stream.left = True

    def _headers(self, number: int, packed: bytes, *, ends: bool) -> None:
        try:
            fields = dict(self.decoder.decode(packed, raw=True))
        except HPACKError as error:
            raise Violation(f"a header block that is none: {error}") from error
        stream = self._known(number, HEADERS)
        if stream.left:
            return
        if stream.over:
            raise Violation(f"headers behind the end: {stream.request.number}")
        if stream.head is not None:
            if not ends or b":status" in fields:
                raise Violation(f"headers within an answer: {fields!r}")
            self._end(stream)
            return
        status = int(fields[b":status"])
        if status < 200:
            if status == 101 or ends or stream.request.headless:
                raise Violation(f"an interim answer that must not be: {status}")
            return
        for name in fields:
            if name in {b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"} or name != name.lower():
                raise Violation(f"a field that HTTP/2 does not have: {name!r}")
        self._begin(stream, status, fields)
        self.oracle.features.add(f"stream {status} {stream.answer is None} {ends} {min(3, len(self.open))}")
        if ends:
            self._end(stream)

    def _begin(self, stream: Stream, status: int, fields: dict[bytes, bytes]) -> None:
        """See whether this answer may come for the request."""
        request = stream.request
        stream.head = Head((b"%d" % status, b""), fields)
        stream.answer = answer = self.oracle.at_client(stream.head, request)
        stream.bodyless = request.method == b"HEAD" or status in {204, 304}
        if answer is None:
            if status < 400:
                raise Violation(f"the gateway's own answer is none of an error: {status}")
            if not request.refused and not self.world.excused(request, self, status):
                raise Violation(f"a good request was answered with an error: {status} for {request.number}")
        elif request.headless:
            raise Violation(f"a server's answer to what is malformed: {status}")
        elif not answer.valid and answer.status in {-1, 101}:
            raise Violation(f"an answer that is none was passed on: {answer.number}")

    def _data(self, stream: Stream, payload: bytes, *, ends: bool) -> None:
        self.room -= len(payload)
        stream.room -= len(payload)
        if self.room < 0 or (stream.room < 0 and not stream.left):
            raise Violation(f"more than its window was sent: {self.room}, {stream.room}")
        if stream.head is None and not stream.left:
            raise Violation(f"data before a head: {stream.request.number}")
        if stream.over:
            raise Violation(f"data behind the end: {stream.request.number}")
        if payload and self.takes and self.speaks:
            self._credit(0, len(payload))
            if not ends and not stream.left:
                self._credit(stream.number, max(len(payload), 20_000 - stream.room))
        if stream.left:
            return
        answer = stream.answer
        if answer is not None:
            expected = answer.body[stream.body : stream.body + len(payload)]
            if expected != payload or stream.bodyless:
                raise Violation(
                    f"the body of an answer differs: {answer.number} at {stream.body}, {payload[:60]!r} "
                    f"for {expected[:60]!r}"
                )
        stream.body += len(payload)
        if ends:
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        answer = stream.answer
        stream.over = True
        stream.request.answered = True
        self.next += 1
        if answer is not None and not stream.bodyless:
            if not answer.valid:
                raise Violation(f"an answer that was cut looks complete: {answer.number}")
            if stream.body != len(answer.body):
                raise Violation(f"an answer is shorter: {stream.body} of {len(answer.body)}")

    def _reset(self, stream: Stream, code: int) -> None:
        self.oracle.features.add(f"reset {code} {stream.head is not None} {stream.left}")
        if stream.over or stream.left:
            return
        stream.over = True
        self._cut(stream, f"reset with {code}")

    def _cut(self, stream: Stream, how: str) -> None:
        """Whether an answer that does not come, or not whole, may be missing. Raises Violation."""
        answer, request = stream.answer, stream.request
        if request.refused or (answer is not None and not answer.valid) or not stream.said:
            return
        if self.ruined or self.wild is not None or self.finished is not None:
            return
        if not self.world.excused(request, self, 0):
            raise Violation(f"an answer was cut: {request.number} {request.method.decode()} ({how})")

    def on_end(self) -> None:
        self.oracle.features.add(
            f"http2 {'broken' if self.broken else 'ended'} {min(3, len(self.open))} {self.leaving}"
        )
        if self.gone or self.refused:
            return
        for stream in self.open:
            self._cut(stream, "broken" if self.broken else "ended")

    def state(self) -> str:
        found = self.open
        return (
            f"2{min(3, len(found))}{'h' if any(stream.head for stream in found) else ''}"
            f"{'b' if any(not stream.said for stream in found) else ''}{'s' if self.stalled else ''}"
            f"{'f' if self.finished is not None else ''}{'' if self.wild is None else 'w'}"
            f"{'r' if self.ruined else ''}{'l' if self.leaving else ''}{'' if self.live else 'x'}"
        )


class Http2TlsClient(TlsClient, Http2Client):
    """The same over TLS."""
