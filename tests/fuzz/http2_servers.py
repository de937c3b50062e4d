"""A server's end of a connection in HTTP/2 from the fuzzed gateway: many requests at a time, answered in any order.

It writes its frames itself, good ones and others, keeps to the windows and the order that RFC 9113 demands of the
gateway, and checks that the gateway does. A PING behind what may end the connection tells whether it has: what is on the
connection until then may fail.
"""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpack import Decoder, HPACKError

from tests.fuzz.http2 import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    Fields,
    block,
    frame,
)
from tests.fuzz.oracle import Answer, Head, Request, Violation, pattern
from tests.fuzz.peers import Peer, compare_end, compare_piece
from tests.fuzz.tls import TlsSocket

if TYPE_CHECKING:
    from tests.fuzz.world import World

BUDGET = 3000
"""Points that a server may spend on frames that answer nothing: less than a third of what the gateway gives it."""
MOST = 100
"""Streams at a time that the gateway opens, whatever a server allows."""
GREETINGS: tuple[tuple[tuple[int, int], ...], ...] = (
    (),
    ((3, 100),),
    ((3, 1),),
    ((3, 2), (4, 1)),
    ((4, 0),),
    ((4, 300), (3, 5)),
    ((4, 1 << 20), (8, 1)),
    ((3, 0),),
    ((1, 0), (0xF00, 7)),
)
"""SETTINGS of a new connection: 3 is MAX_CONCURRENT_STREAMS, 4 INITIAL_WINDOW_SIZE."""
CHANGES = (
    (3, 1),
    (3, 3),
    (3, 100),
    (3, 0),
    (4, 0),
    (4, 1),
    (4, 5000),
    (4, WINDOW),
    (4, 1 << 20),
    (1, 0),
    (6, 10),
    (0xAAAA, 1),
)
CODES = (REFUSED_STREAM, CANCEL, NO_ERROR, 1, 2, 7, 13, 0xFFFF)
LENGTHS = (20, 0, 1, 5000, 33_000, 70_000, 200_000)
FORBIDDEN = frozenset({b"connection", b"transfer-encoding", b"keep-alive", b"upgrade", b"host", b"proxy-connection"})


@dataclass(frozen=True, slots=True)
class Shape:
    """An answer. `wrong` says what is the matter with it, if anything."""

    status: int = 200
    length: bool = True
    trailers: bool = False
    interims: int = 0
    pieces: int = 1
    """Of the header block."""
    padded: bool = False
    bare: bool = False
    """The head is the end."""
    wrong: str = ""


SHAPES: tuple[Shape, ...] = (
    *(Shape(),) * 5,
    *(Shape(length=False),) * 2,
    Shape(trailers=True),
    Shape(length=False, trailers=True),
    Shape(204, length=False, bare=True),
    Shape(304, length=False, bare=True),
    Shape(500),
    Shape(503),
    Shape(length=False, bare=True),
    Shape(interims=2),
    Shape(pieces=4),
    Shape(padded=True),
    Shape(401),
    Shape(interims=40, wrong="interims"),
    *(Shape(wrong=wrong) for wrong in (
        "no status", "two statuses", "late status", "letters", "capital", "connection", "line", "request's field", "two lengths",
        "huge", "101", "interim end", "data first", "only an end",
    )),
    Shape(wrong="more"),
    Shape(wrong="less"),
    Shape(length=False, wrong="open trailers"),
    Shape(length=False, wrong="status in trailers"),
    Shape(204, length=False, wrong="body of none"),
)  # fmt: skip


def _heads(wrong: str, fields: Fields) -> Fields:
    """What a head becomes that is wrong in this way."""
    status, rest = fields[0], fields[1:]
    made: dict[str, Fields] = {
        "no status": rest,
        "two statuses": [status, *fields],
        "late status": [*rest, status],
        "letters": [(b":status", b"2xx"), *rest],
        "capital": [*fields, (b"X-Y", b"z")],
        "connection": [*fields, (b"connection", b"close")],
        "line": [*fields, (b"a", b"b\r\nc: d")],
        "request's field": [status, (b":path", b"/"), *rest],
        "two lengths": [*fields, (b"content-length", b"5"), (b"content-length", b"5")],
        "huge": [*fields, *[(b"a", b"b" * 10_000)] * 7],
        "101": [(b":status", b"101"), *rest],
        "interim end": [(b":status", b"103"), *rest],
    }
    return made.get(wrong, fields)


HEADLESS = frozenset({
    "no status", "two statuses", "late status", "letters", "capital", "connection", "line", "request's field", "two lengths",
    "huge", "101", "interim end", "data first", "only an end", "interims",
})  # fmt: skip
"""Wrong already at the head: nothing of it may pass."""


def _ruins(stream: int, idle: int) -> tuple[bytes, ...]:
    """What must end the connection; `stream` is the newest of the gateway's, `idle` one that it has not opened."""
    ok = block([(b":status", b"200")])
    return (
        frame(PING, bytes(8), 0, 1),
        frame(PING, bytes(7)),
        frame(DATA, b"x", END_STREAM, 0),
        frame(DATA, b"x", END_STREAM, idle),
        frame(HEADERS, ok, END_HEADERS, idle),
        frame(HEADERS, ok, END_HEADERS, 0),
        frame(HEADERS, ok, END_HEADERS | END_STREAM, 2),
        frame(HEADERS, b"\xff" * 9, END_HEADERS | END_STREAM, stream),
        frame(HEADERS, ok, 0, stream) + frame(PING, bytes(8)),
        frame(HEADERS, ok, 0, stream) + frame(CONTINUATION, b"", END_HEADERS, idle),
        frame(CONTINUATION, b"", END_HEADERS, stream),
        frame(PUSH_PROMISE, struct.pack(">I", 2) + block([(b":method", b"GET")]), END_HEADERS, stream),
        frame(SETTINGS, bytes(5)),
        frame(SETTINGS, bytes(6), ACK),
        frame(SETTINGS, b"", 0, stream),
        frame(SETTINGS, struct.pack(">HI", 4, 1 << 31)),
        frame(SETTINGS, struct.pack(">HI", 5, 16383)),
        frame(SETTINGS, struct.pack(">HI", 2, 1)),
        frame(WINDOW_UPDATE, struct.pack(">I", 0x7FFFFFFF)) * 2,  # one is no fault while the window is empty
        frame(WINDOW_UPDATE, bytes(4)),
        frame(WINDOW_UPDATE, bytes(3)),
        frame(RST_STREAM, bytes(4), 0, idle),
        frame(RST_STREAM, bytes(3), 0, stream),
        frame(RST_STREAM, bytes(4), 0, 0),
        frame(DATA, bytes(FRAME + 1), 0, stream),
        frame(GOAWAY, bytes(8), 0, stream),
        frame(GOAWAY, struct.pack(">II", 2, 0)),
        frame(GOAWAY, bytes(7)),
        frame(PRIORITY, bytes(5), 0, 0),
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        bytes(100),
    )


def _lates(stream: int) -> tuple[bytes, ...]:
    """What may end the connection, or may not: on a stream that the server has ended."""
    return (
        frame(HEADERS, block([(b":status", b"200")]), END_HEADERS, stream),
        frame(HEADERS, block([(b"x-t", b"t")]), END_HEADERS | END_STREAM, stream),
        frame(HEADERS, block([(b"x-t", b"t")]), END_HEADERS | END_STREAM, stream) * 2,
        frame(DATA, b"x", 0, stream),
        frame(DATA, b"x" * 3000, END_STREAM, stream),
        frame(RST_STREAM, bytes(4), 0, stream) * 2,
        frame(WINDOW_UPDATE, struct.pack(">I", 0x7FFFFFFF), 0, stream),
        frame(WINDOW_UPDATE, bytes(4), 0, stream),
        frame(PRIORITY, struct.pack(">IB", stream, 1), 0, stream),
    )


STREAM_ERROR = frame(WINDOW_UPDATE, struct.pack(">I", 0x7FFFFFFF))
"""What ends a stream and nothing else, if it is on one."""


@dataclass(slots=True, eq=False)
class Call:
    """One request, as the server gets it, and its answer."""

    conn: "Http2ServerConn"
    number: int
    request: Request | None
    window: int
    """What may be sent."""
    room: int
    """What may come."""
    body: int = 0
    complete: bool = False
    left: bool = False
    """Reset by one side: whatever comes means nothing."""
    answer: Answer | None = None
    todo: bytes = b""
    behind: bytes = b""
    """Frames behind the body, which end the stream; empty: the last of the body does."""
    padded: bool = False
    sized: bool = False
    """The answer has a content-length."""
    said: bool = False
    """The whole answer is on its way, up to `end` of what the connection sends."""
    body_end: int = -1
    """Where its body ends there; -1: not all of it is on its way."""
    end: int = -1
    interims: int = 0

    @property
    def open(self) -> bool:
        """Whether it may still be answered."""
        return not (self.left or self.said)

    @property
    def waits(self) -> bool:
        """Whether nothing of an answer has been said."""
        return self.answer is None and not self.left


class Http2ServerConn(Peer):
    """A server's connection, and what may come on each of its streams."""

    upgraded = False
    tunnel = None

    def __init__(self, world: "World", sock: socket.socket | TlsSocket, server: int, greeting: int) -> None:
        super().__init__(world, sock)
        self.server = server
        self.calls: dict[int, Call] = {}
        self.last = -1
        """The gateway's newest stream."""
        self.begun = False
        """The gateway's preface has come."""
        self.decoder = Decoder()
        self.block: bytes | None = None
        self.ends = False
        """That block ends its stream."""
        self.window = WINDOW
        self.initial = WINDOW
        """Of streams, as the gateway has set it."""
        self.room = WINDOW
        self.given_initial = WINDOW
        self.most = MOST
        """Streams that the gateway may have open."""
        self.pending: list[dict[int, int]] = []
        """Settings that the gateway has not acknowledged."""
        self.length = self.written = 0
        self.takes = True
        self.mute = False
        """It answers no PING."""
        self.spent = 0
        self.slow = False
        """It has held back a part of what it says while time passed: a header block may have taken too long."""
        self.ruined = False
        """It has sent what must end the connection."""
        self.unsure = 0
        """PINGs that tell whether the gateway goes on, and have no answer yet."""
        self.promised = 1 << 31
        """The last stream that it has said it would answer."""
        self.parted = False
        """The gateway knows that it takes no more."""
        self.pings: list[str] = []
        self.set(GREETINGS[greeting % len(GREETINGS)])

    # ------------------------------------------------------------------------------------------------------- sending

    def sent(self, count: int) -> None:
        self.written += count

    def say(self, data: bytes, hold: int = 0) -> None:
        """Send `data`, behind what is held back, if anything is; the last `hold` bytes of it wait."""
        if self.gone or self.broken:
            return
        self.out += data
        self.length += len(data)
        if self.held:
            self.held += len(data)
        else:
            self.held = hold
            self.flush()

    def spend(self, points: int, data: bytes) -> bool:
        """Send frames that answer nothing, if there are points left."""
        if self.spent + points > BUDGET:
            return False
        self.spent += points
        self.say(data)
        return True

    def set(self, settings: tuple[tuple[int, int], ...]) -> None:
        """Send SETTINGS, which hold once they are acknowledged; what they allow more is allowed at once."""
        found = dict(settings)
        self.pending.append(found)
        if 4 in found:
            self._grow(max(0, found[4] - self.given_initial))
        self.most = max(self.most, min(MOST, found.get(3, 0)))
        self.say(frame(SETTINGS, b"".join(struct.pack(">HI", *each) for each in settings)))

    def _grow(self, by: int) -> None:
        self.given_initial += by
        for call in self.calls.values():
            call.room += by

    def ask(self, why: str) -> None:
        """Send a PING whose answer shows that the gateway has seen what was before it, and goes on."""
        if why == "unsure":
            self.unsure += 1
        self.pings.append(why)
        self.spent += 1
        self.say(frame(PING, b"%8d" % len(self.pings)))

    def respond(self, call: Call, shape: Shape, size: int, cut: int) -> str:
        """Answer a request; `cut` of 256 parts of what can be sent now is."""
        world, request = self.world, call.request
        bodyless = (request is not None and request.method == b"HEAD") or shape.status in {204, 304}
        cuts = bool(shape.wrong) and shape.wrong not in HEADLESS
        if cuts and (size < 2 or (bodyless and shape.status != 204)):
            return ""
        if cuts:
            size = min(size, 5000)
        call.interims += shape.interims
        body = b"" if shape.bare else pattern(f"a{world.numbers + 1}", size)
        answer = call.answer = world.answer(request, shape.status, body)
        if request is not None and (shape.wrong or shape.status in world.variant.retried):
            request.faulted = True
        if shape.wrong:
            answer.valid = False
            if shape.wrong in HEADLESS:
                answer.status = -1
        start = self.length
        held = bool(self.held)
        if not held:
            self.held = 1 << 40  # until all of it is composed
        wire = self._head(call, shape, len(body), bare=shape.bare or bodyless)
        self.say(wire)
        if shape.wrong:
            self._spoiled(call, shape, body)
        elif shape.bare or bodyless:
            call.said, call.body_end, call.end = True, self.length, self.length
        else:
            call.todo, call.padded, call.sized = body, shape.padded, shape.length
            if shape.trailers:
                call.behind = frame(HEADERS, block([(b"x-t", b"t")]), END_HEADERS | END_STREAM, call.number)
            self.pour()
        said = self.length - start
        if not held:
            self.held = 0 if cut == 0 else said - max(1, said * cut // 256)
            self.flush()
        return "cut" if cut else "whole"

    def _head(self, call: Call, shape: Shape, size: int, *, bare: bool) -> bytes:
        answer = call.answer
        assert answer is not None
        fields: Fields = [(b":status", b"%d" % shape.status), (b"x-fuzz", b"%d" % answer.number)]
        if shape.length:
            said = size - (shape.wrong == "more") + 1000 * (shape.wrong == "less")
            fields.append((b"content-length", b"%d" % said))
        fields = _heads(shape.wrong, fields)
        interim = frame(HEADERS, block([(b":status", b"103"), (b"link", b"</a>")]), END_HEADERS, call.number)
        wire = interim * shape.interims
        if shape.wrong == "data first":
            wire += frame(DATA, b"early", 0, call.number)
        if shape.wrong == "only an end":
            return wire + frame(DATA, b"", END_STREAM, call.number)
        packed = block(fields)
        step = min(FRAME, -(-len(packed) // shape.pieces))
        parts = [packed[at : at + step] for at in range(0, len(packed), step)]
        ends = (bare and shape.wrong in {"", *HEADLESS}) or shape.wrong == "interim end"
        for at, part in enumerate(parts):
            flags = END_HEADERS if at == len(parts) - 1 else 0
            if at == 0:
                wire += frame(HEADERS, part, flags | (END_STREAM if ends else 0), call.number)
            else:
                self.spent += 100
                wire += frame(CONTINUATION, part, flags, call.number)
        return wire

    def _spoiled(self, call: Call, shape: Shape, body: bytes) -> None:
        """Send the rest of an answer that is wrong; the gateway resets the stream."""
        self.spent += 100
        call.said = True
        if shape.wrong in {"data first", "only an end"}:
            self.doubt()  # to libnghttp2 it is an error of the connection, which it may be (RFC 9113 section 5.4.1)
            self.ask("unsure")
        if shape.wrong in HEADLESS:
            return
        size = max(0, min(len(body), self.window, call.window))
        if size < len(body):
            self.reset(call, CANCEL)
            return
        self._account(call, size)
        self.say(frame(DATA, body[:size], END_STREAM if shape.wrong in {"less", "body of none"} else 0, call.number))
        if shape.wrong == "open trailers":
            self.say(frame(HEADERS, block([(b"x-t", b"t")]), END_HEADERS, call.number))
        elif shape.wrong == "status in trailers":
            self.say(frame(HEADERS, block([(b":status", b"200")]), END_HEADERS | END_STREAM, call.number))

    def _account(self, call: Call, size: int) -> None:
        self.window -= size
        call.window -= size

    def pour(self) -> None:
        """Send what windows allow of all answers."""
        for call in list(self.calls.values()):
            if call.answer is None or not call.open:
                continue
            while True:
                pad = 10 if call.padded else 0
                size = min(len(call.todo), call.window - pad, self.window - pad, FRAME - pad)
                if call.todo and size <= 0:
                    break
                piece, call.todo = call.todo[:size], call.todo[size:]
                flags = (0 if call.todo or call.behind else END_STREAM) | (PADDED if pad else 0)
                payload = bytes((pad - 1,)) + piece + bytes(pad - 1) if pad else piece
                self._account(call, len(payload))
                self.say(frame(DATA, payload, flags, call.number))
                if not call.todo:
                    call.body_end = self.length
                    self.say(call.behind)
                    call.said, call.end = True, self.length
                    call.answer.written = True
                    break

    def interim(self, call: Call, how: int) -> str:
        """Send a 1xx, of which the gateway takes a few."""
        call.interims += 1
        if call.interims > 10:
            return ""
        status = (100, 102, 103)[how % 3]
        self.say(frame(HEADERS, block([(b":status", b"%d" % status), (b"x", b"y")]), END_HEADERS, call.number))
        return f"{how % 3}"

    def reply(self, call: Call) -> None:
        """Answer well."""
        self.respond(call, SHAPES[0], 20, 0)

    # ---------------------------------------------------------------------------------------------------- what is wrong

    def _lose(self, call: Call, upto: int) -> None:
        """Nothing more of its answer comes than what is there `upto` some place of what the connection sends."""
        answer = call.answer
        if answer is not None and not call.left and not (call.said and call.end <= upto):
            there = call.sized and 0 <= call.body_end <= upto
            answer.valid = answer.valid and there
        call.left = True

    def _fail(self, call: Call) -> None:
        if call.request is not None:
            call.request.faulted = True

    def doubt(self) -> None:
        """What is on the connection may fail, and what is on its way to it."""
        self.world.oracle.trouble += 1
        for call in self.calls.values():
            if not (call.left or (call.said and call.complete)):
                self._fail(call)

    def part(self, how: int) -> str:
        """End the connection in one of three ways."""
        self.doubt()
        for call in self.calls.values():
            if call.said and not call.complete:
                self._fail(call)
            self._lose(call, self.written)
        if how % 3 == 0:
            self.finish()
        else:
            self.close(reset=how % 3 == 1)
        return f"{how % 3}"

    def spoil(self, which: int, what: int) -> str:
        """Send what must end the connection, or may, or must end a stream."""
        if not self.sends or self.ruined:
            return ""
        if which % 3 == 0:
            return self._ruin(what)
        late = which % 3 == 1
        found = [call for call in self.calls.values() if (call.said and not call.left if late else call.open)]
        if not found or self.spent + 300 > BUDGET:
            return ""
        self.spent += 300
        call = found[which // 3 % len(found)]
        if late:
            table = _lates(call.number)
            self.doubt()
            self._fail(call)
            self.say(table[what % len(table)])
            self.ask("unsure")
        else:
            self._fail(call)
            self._lose(call, self.length)
            call.room += 0x7FFFFFFF  # which one of them allows if the window is empty
            self.say((STREAM_ERROR[:5] + call.number.to_bytes(4, "big") + STREAM_ERROR[9:]) * 2)
        return f"{which % 3}{what % len(_lates(1))}"

    def _ruin(self, what: int) -> str:
        stream = max(1, self.last)
        table = _ruins(stream, stream + 1000)
        self.held = 0
        self.doubt()
        for call in self.calls.values():
            self._lose(call, self.length)
        self.say(table[what % len(table)])
        self.ruined = True
        return f"ruin{what % len(table)}"

    def goaway(self, how: int) -> str:
        """Say that some requests, and those that come, are not answered."""
        last = (self.last, 0, self.last - 2, 0x7FFFFFFF, self.last + 2)[how % 5]
        last = max(0, min(last, self.promised))
        self.world.oracle.trouble += 1
        for call in self.calls.values():
            if call.number > last:
                self._refuse(call)
        self.promised = last
        self.spent += 1
        code = NO_ERROR if how % 3 else ENHANCE_YOUR_CALM
        self.say(frame(GOAWAY, struct.pack(">II", last, code) + b"bye" * (how % 2)))
        self.ask("parted")
        return f"goaway{how % 5}"

    def _refuse(self, call: Call) -> None:
        """Its request has not been processed: it may be sent again, whatever it is."""
        if call.request is not None and not call.left:
            call.request.heads -= 1
        self._fail(call)
        self._lose(call, self.length)

    def reset(self, call: Call, code: int) -> str:
        """Reset a stream."""
        if code == REFUSED_STREAM and call.answer is None:
            self._refuse(call)
        if not (call.said and call.complete):
            self._fail(call)
        self._lose(call, self.length)
        self.say(frame(RST_STREAM, struct.pack(">I", code), 0, call.number))
        return f"reset{code}"

    def play(self, kind: int, how: int) -> str:
        """Send a frame that answers nothing, or stop to do what a server should."""
        if not self.sends or self.ruined:
            return ""
        match kind % 10:
            case 0 if self.spend(1, frame(PING, bytes(8))):
                self.pings.append("nothing")
            case 1 if self.spent + 10 <= BUDGET:
                self.spent += 10
                self.set((CHANGES[how % len(CHANGES)],))
            case 2 if self.room < 1 << 24 and self.spend(1, frame(WINDOW_UPDATE, struct.pack(">I", 1 + how))):
                self.room += 1 + how
            case 3:
                extension = (0xBB, 0x0A, 0x0C)[how % 3]
                self.spend(1, frame(extension, b"x" * how, 0xFF, max(0, self.last) if how % 2 else 0))
            case 4:
                self.takes = not self.takes
            case 5:
                self.mute = not self.mute
            case 6:
                return self.goaway(how)
            case _:
                return self._play_with_a_stream(kind, how)
        return f"{kind % 10}"

    def _play_with_a_stream(self, kind: int, how: int) -> str:
        found = [call for call in self.calls.values() if not call.left]
        if not found:
            return ""
        call = found[kind // 10 % len(found)]
        if kind % 10 != 7:
            return self.reset(call, CODES[how % len(CODES)])
        if self.spend(1, frame(WINDOW_UPDATE, struct.pack(">I", 1 + how), 0, call.number)):
            call.room += 1 + how
        return "7"

    def relax(self) -> None:
        """Take whatever comes, and allow all of it."""
        super().relax()
        self.takes, self.mute = True, False
        if not self.sends or self.ruined:
            return
        self.flush()
        self.set(((3, MOST), (4, 1 << 20)))
        self._credit(None, 1 << 20)

    def _credit(self, call: Call | None, size: int) -> None:
        if call is None:
            self.room += size
        else:
            call.room += size
        self.say(frame(WINDOW_UPDATE, struct.pack(">I", size), 0, 0 if call is None else call.number))

    # ------------------------------------------------------------------------------------------------------ receiving

    def take(self) -> None:
        if not self.begun:
            if len(self.got) < len(PREFACE):
                if not PREFACE.startswith(bytes(self.got)):
                    raise Violation(f"no preface: {bytes(self.got)!r}")
                return
            if not self.got.startswith(PREFACE):
                raise Violation(f"no preface: {bytes(self.got[:24])!r}")
            del self.got[: len(PREFACE)]
            self.begun = True
        while len(self.got) >= 9:
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
                self._block(kind, flags, number, payload)
            case 3:  # RST_STREAM
                self._known(number, kind).left = True
                self.oracle.features.add(f"server's stream reset {int.from_bytes(payload, 'big')}")
            case 4:
                self._settings(flags, payload)
            case 6:
                self._ping(flags, payload)
            case 7:
                self._goaway(*struct.unpack(">II", payload[:8]))
            case 8:
                self._credited(number, int.from_bytes(payload, "big"))
            case _:
                raise Violation(f"a frame that no server expects: {kind}")

    def _block(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self.block = (self.block or b"") + payload
        if kind == HEADERS:
            self.ends = flags & END_STREAM != 0
        if flags & END_HEADERS:
            whole, self.block = self.block, None
            self._headers(number, whole)

    def _goaway(self, last: int, code: int) -> None:
        if code != NO_ERROR and not (self.ruined or self.unsure or self.slow):
            raise Violation(f"a server's connection was ended: {code}, {self.spent} points")
        if last:
            raise Violation(f"a GOAWAY about streams of the server: {last}")

    def _credited(self, number: int, size: int) -> None:
        if number == 0:
            self.window += size
        else:
            self._known(number, WINDOW_UPDATE).window += size
        self.pour()

    def _known(self, number: int, kind: int) -> Call:
        call = self.calls.get(number)
        if call is None:
            raise Violation(f"a frame of a stream that is none: {kind} on {number}")
        return call

    def _ping(self, flags: int, payload: bytes) -> None:
        if not flags & ACK:
            if not self.mute:
                self.say(frame(PING, payload, ACK))
            return
        if not self.pings:
            raise Violation("the answer to a PING that was not sent")
        match self.pings.pop(0):
            case "unsure":
                self.unsure -= 1
                self.doubt()
            case "parted":
                self.parted = True

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            if not self.pending:
                raise Violation("the acknowledgement of SETTINGS that were not sent")
            found = self.pending.pop(0)
            if 3 in found:
                self.most = max(min(MOST, found[3]), *(each.get(3, 0) for each in self.pending), 0)
            if 4 in found:
                highest = max(found[4], *(each.get(4, 0) for each in self.pending), 0)
                self._grow(highest - self.given_initial)
            return
        for at in range(0, len(payload), 6):
            name, value = struct.unpack(">HI", payload[at : at + 6])
            if name == 4:
                for call in self.calls.values():
                    call.window += value - self.initial
                self.initial = value
        self.say(frame(SETTINGS, b"", ACK))
        self.pour()

    def _headers(self, number: int, packed: bytes) -> None:
        try:
            pairs = [(bytes(name), bytes(value)) for name, value in self.decoder.decode(packed, raw=True)]
        except HPACKError as error:
            raise Violation(f"a header block that is none: {error}") from error
        fields = dict(pairs)
        call = self.calls.get(number)
        if call is not None:
            if call.complete or not self.ends or any(name.startswith(b":") for name in fields):
                raise Violation(f"headers within a request: {fields!r}")
            self._completed(call)
            return
        if number <= self.last or number % 2 == 0:
            raise Violation(f"a stream out of order: {number} after {self.last}")
        if self.parted:
            raise Violation(f"a request behind GOAWAY: {fields!r}")
        alive = sum(not (each.left or (each.said and each.complete)) for each in self.calls.values())
        if alive >= self.most and not (self.ruined or self.unsure):
            raise Violation(f"more streams than allowed: {alive + 1} of {self.most}")
        self.last = number
        self._begin(number, pairs, fields)

    def _begin(self, number: int, pairs: Fields, fields: dict[bytes, bytes]) -> None:
        names = [name for name, _ in pairs]
        if sorted(names[:4]) != [b":authority", b":method", b":path", b":scheme"] or any(
            name.startswith(b":") for name in names[4:]
        ):
            raise Violation(f"malformed pseudo-header fields: {names!r}")
        for name in names:
            if name in FORBIDDEN or name != name.lower():
                raise Violation(f"a field that HTTP/2 does not have: {name!r}")
        if names.count(b"content-length") > 1 or names.count(b"x-id") > 1:
            raise Violation(f"header twice: {names!r}")
        if b"/bad/" in fields[b":path"] and not self.oracle.loose:
            raise Violation(f"a server got a byte of what is malformed: {fields!r}")
        ignored = number > self.promised
        if ignored and (known := self.oracle.requests.get(int(fields.get(b"x-id", b"-1")))) is not None:
            known.heads -= 1  # before it counts: it may have been sent again meanwhile
        request = self.oracle.at_server(Head((fields[b":method"], fields[b":path"]), fields))
        call = Call(self, number, request, self.initial, self.given_initial)
        self.calls[number] = call
        if ignored:
            self._fail(call)
            self._lose(call, self.length)
        if self.unsure or self.ruined:
            self._fail(call)
        call.left = call.left or self.ruined or not self.sends
        self.oracle.features.add(
            f"h2 head {min(3, len(self.calls))} {fields[b':method'].decode('latin-1')} {self.ends} {self.most < MOST}"
        )
        length = fields.get(b"content-length")
        if length is not None and request is not None and not request.tainted and int(length) != len(request.body):
            raise Violation(f"a length that is not the body's: {length!r} of {len(request.body)}")
        if self.ends:
            self._completed(call)

    def _data(self, call: Call, payload: bytes, *, ends: bool) -> None:
        self.room -= len(payload)
        call.room -= len(payload)
        if self.room < 0 or call.room < 0:
            raise Violation(f"more than its window was sent: {self.room}, {call.room}")
        if call.complete:
            raise Violation(f"data behind the end: stream {call.number}")
        if b"/bad/" in payload and not self.oracle.loose:
            raise Violation(f"a server got a byte of what is malformed: {payload[:120]!r}")
        if payload and self.takes and self.sends and not self.ruined:
            self._credit(None, len(payload))
            if not ends and not call.left:
                self._credit(call, max(len(payload), 20_000 - call.room))
        compare_piece(call.request, call.body, payload)
        call.body += len(payload)
        if ends:
            self._completed(call)

    def _completed(self, call: Call) -> None:
        call.complete = True
        compare_end(self.world, call.request, call.body)

    # ---------------------------------------------------------------------------------------------------------- the rest

    @property
    def busy(self) -> bool:
        """Whether the gateway waits for an answer."""
        return any(call.open for call in self.calls.values())

    @property
    def silent(self) -> bool:
        """Whether it does not do, for now, what a connection needs to go on."""
        return (
            self.mute
            or self.stalled
            or self.held > 0
            or self.cut_short
            or self.most == 0
            or any(3 in each and not each[3] for each in self.pending)
        )

    def waiting(self, holds: Callable[[Call], bool] = bool) -> list[Call]:
        """Return the calls that have no answer yet, and for which that holds."""
        if not self.sends or self.ruined:
            return []
        return [call for call in self.calls.values() if call.waits and holds(call)]

    def on_end(self) -> None:
        self.oracle.features.add(f"server {'broken' if self.broken else 'ended'} {self.state()}")
        if self.ruined or self.unsure:
            self.doubt()
        self.unsure = 0
        for call in self.calls.values():
            self._lose(call, self.written)
        if not self.gone:
            self.world.left(self)

    def state(self) -> str:
        """What it is in the middle of, roughly."""
        calls = list(self.calls.values())
        return (
            f"h{min(3, sum(call.open for call in calls))}{'a' if any(call.answer and call.open for call in calls) else ''}"
            f"{'o' if self.out else ''}{'s' if self.stalled else ''}{'m' if self.mute else ''}"
            f"{'r' if self.ruined else ''}{'u' if self.unsure else ''}{'p' if self.promised < 1 << 31 else ''}"
            f"{'' if self.live else 'x'}"
        )
