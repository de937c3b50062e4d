"""The connection path as a fuzz target: bytes are read as events of clients, servers and the worker.

Four bytes are one event: its kind, the connection it happens to, and two bytes of detail. The first four bytes choose
the kind of site. Any bytes are a run; an event that has no object, such as the answer of a server that was asked
nothing, does nothing.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from tests.fuzz import http2_servers
from tests.fuzz.http2 import Http2Client
from tests.fuzz.http2_servers import Call, Http2ServerConn
from tests.fuzz.oracle import Answer, Request, pattern
from tests.fuzz.peers import Client, ServerConn
from tests.fuzz.site import SERVERS, VARIANTS, Site
from tests.fuzz.tls import TlsSocket
from tests.fuzz.world import CLIENTS, SIZES, World

GRAIN = 4
"""Bytes of an event."""
ALONE = 0x80
"""In the first byte of an event: others happen before the gateway looks."""
ONCE = 0x40
"""The gateway looks once only, and is in the middle of things when the next event comes."""

P = b"POST /bad/%d HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\n"
G = b"GET /bad/%d HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\n"
C = b"POST /r/%d HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\nTransfer-Encoding: chunked\r\n\r\n"

HEADLESS: tuple[bytes, ...] = (
    b"GET /bad/%d HTTP/1.1\r\nX-Id: %d\r\n\r\n",
    b"\0",
    G + b"X y: z\r\n\r\n",
    G + b"X: \0\r\n\r\n",
    b"GET /bad/%d HTTP/2.0\r\nHost: a\r\n\r\n",
    P + b"Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /bad/%d HTTP/1.1\r\nHost: a\r\n\r\n",
    P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    P + b"Content-Length: +5\r\n\r\n/bad/",
    G + b"Host: b\r\n\r\n",
    G + b"X: a\r\n b\r\n\r\n",
    G + b"X: a\nY: b\r\n\r\n",
    P + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    G + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    b"GET /bad/" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    P + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"GET /bad/%d#x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /bad/%d/%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)
"""What is refused at its head."""
BODIES: tuple[bytes, ...] = (
    C + b"zz\r\n",
    C + b"5\r\nhelloX",
    C + b"5\r\nhello\r\n-1\r\n",
    C + b"fffffffffffffffff\r\n",
    C + b"5\nhello\r\n0\r\n\r\n",
    C + b"0\r\nX y: z\r\n\r\n",
)
"""What is refused within its body."""
WORDS: tuple[bytes, ...] = (
    b"\r\n", b"\r", b"\n", b"\0", b"\r\n\r\n", b"GET ", b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"Content-Length: 5\r\n\r\n", b"\xff\xfe", b"a" * 2000, b"Transfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
)  # fmt: skip
TIMES = (1, 150, 900, 1100, 2100, 3000, 4900, 5100, 10_100, 30_100, 60_100, 3_600_100)
UPGRADE = b"Connection: upgrade\r\nUpgrade: echo\r\n"


@dataclass(frozen=True, slots=True)
class Ask:
    """A good request; size None: as the event says."""

    method: bytes = b"GET"
    fields: bytes = b""
    size: int | None = 0
    chunked: bool = False
    old: bool = False
    upgrade: bool = False


GET = Ask()
ASKS: tuple[tuple[Ask, ...], ...] = (
    (GET,),
    (GET,),
    (GET,),
    (Ask(b"HEAD"),),
    (Ask(b"POST", size=None),),
    (Ask(b"POST", size=None),),
    (Ask(b"POST", size=None, chunked=True),),
    (Ask(b"PUT", size=None),),
    (Ask(b"PUT", size=None, chunked=True),),
    (Ask(fields=b"Connection: close\r\n"),),
    (Ask(old=True),),
    (Ask(fields=b"Connection: keep-alive\r\n", old=True),),
    (Ask(b"POST", b"Expect: 100-continue\r\n", size=None),),
    (Ask(fields=UPGRADE, upgrade=True),),
    (Ask(fields=UPGRADE, upgrade=True),),
    (GET, GET, GET),
    (Ask(b"POST", size=1000), GET),
    (Ask(fields=b"Cookie: SRV=1.2; a=b\r\n"),),
    (Ask(b"PUT", size=SIZES[-1]),),
    (Ask(b"POST", size=70_000),),
)
"""What a client asks, at once."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An answer. `wrong` says what is the matter with it, if anything; last: the server closes behind it."""

    status: int = 200
    framing: str = "length"
    fields: bytes = b""
    before: bytes = b""
    wrong: str = ""
    last: bool = False
    minor: int = 1


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
SHAPES: tuple[Shape, ...] = (
    *(Shape(),) * 5,
    Shape(framing="chunked"),
    Shape(401, framing="chunked", fields=b"WWW-Authenticate: NTLM\r\n"),
    Shape(framing="end", last=True),
    Shape(204, framing="none"),
    Shape(500),
    Shape(503),
    Shape(101),
    Shape(101, wrong="bytes behind it"),
    Shape(wrong="garbage"),
    Shape(wrong="huge", fields=b"X: " + b"a" * 70_000 + b"\r\n"),
    Shape(wrong="cut", last=True),
    Shape(wrong="cut", last=True),
    Shape(wrong="chunk", framing="chunked"),
    Shape(wrong="glued"),
    Shape(fields=b"Connection: close\r\n", last=True),
    *(Shape(before=INTERIM),) * 2,
    Shape(before=b"HTTP/1.1 102 Processing\r\n\r\n" * 20, wrong="interims"),
    Shape(fields=b"Connection: close\r\n", last=True, minor=0),
    Shape(wrong="lengths", fields=b"Content-Length: 5\r\n"),
    Shape(304, framing="none"),
    Shape(fields=b"Connection: X-Hop\r\nX-Hop: 1\r\n"),
)
NO_ANSWER = frozenset({"garbage", "huge", "lengths"})
"""Wrong at the head already: nothing of it may pass."""
LENGTHS = (20, 0, 1, 5000, 33_000, 70_000, 200_000)


def _chunked(body: bytes) -> bytes:
    step = max(1, len(body) // 3)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Run:
    """One input at work."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.oracle = world.oracle

    def client(self, which: int) -> Client | None:
        """Return the client of that place if it can speak."""
        client = self.world.clients[which % CLIENTS]
        return client if client is not None and client.speaks else None

    def conn(self, which: int, wanted: Callable[[ServerConn], bool]) -> ServerConn | None:
        """Return one of the servers' connections for which that holds."""
        self.world.pump()
        found = [conn for origin in self.world.origins for conn in origin.conns if not conn.gone and wanted(conn)]
        return found[which % len(found)] if found else None

    def session(self, which: int) -> Http2ServerConn | None:
        """Return one of the servers' connections in HTTP/2."""
        self.world.pump()
        found = self.world.sessions
        return found[which % len(found)] if found else None

    def call(self, which: int) -> Call | None:
        """Return a request in HTTP/2 that has no answer yet."""
        self.world.pump()
        found = [call for session in self.world.sessions for call in session.waiting()]
        return found[which % len(found)] if found else None

    # ------------------------------------------------------------------------------------------------------- clients

    def connect(self, a: int, b: int, _: int) -> str:
        slot = a % CLIENTS
        client = self.world.clients[slot]
        if client is not None and (client.gone or not client.live):
            client.close()
            self.world.clients[slot] = None
        return "" if self.world.connect(slot, b) is None else f"{b & 3}"

    def request(self, a: int, b: int, c: int) -> str:
        client = self.client(a)
        if client is None:
            return ""
        if isinstance(client, Http2Client):
            return self._streams(client, b, c)
        if client.upgrading or client.tunnel is not None:
            return self.talk(a, b, c)
        said = SIZES[(b // len(ASKS)) % len(SIZES)]
        made = []
        for ask in ASKS[b % len(ASKS)]:
            size = said if ask.size is None else ask.size
            made.append(
                self.world.request(
                    client, ask.method, ask.fields, size, chunked=ask.chunked, old=ask.old, upgrade=ask.upgrade
                )
            )
        return f"{b % len(ASKS)}" + self._say(client, made, c)

    def _streams(self, client: Http2Client, b: int, c: int) -> str:
        """Open as many streams as it would send requests."""
        size = SIZES[(b // len(ASKS)) % len(SIZES)]
        for ask in ASKS[b % len(ASKS)]:
            said = size if ask.size is None else ask.size
            request = self.world.request(client, ask.method, b"", said, chunked=ask.chunked)
            if not client.ask(request, trailers=ask.chunked, pieces=1 + c % 3, hold=c % 7 if c > 127 else 0):
                return "full"
        return f"{b % len(ASKS)}{min(3, len(client.open))}"

    def _say(self, client: Client, made: list[Request], cut: int) -> str:
        wire = b"".join(request.wire for request in made)
        at = client.length
        client.say(wire, hold=0 if cut == 0 else len(wire) - max(1, len(wire) * cut // 256))
        for request in made:
            at += len(request.wire)
            request.end = at
            client.requests.append(request)
        return "cut" if cut else ""

    def go_on(self, a: int, b: int, _: int) -> str:
        client = self.client(a)
        if client is None or not client.held:
            return ""
        client.held = (0, max(0, client.held - 1), client.held // 2, client.held * 7 // 8)[b % 4]
        client.flush()
        return f"{b % 4}"

    def malformed(self, a: int, b: int, c: int) -> str:
        client = self.client(a)
        if client is None or client.upgrading or client.tunnel is not None:
            return ""
        if isinstance(client, Http2Client):
            return client.spoil(b)
        headless = b % 3 != 0
        table = HEADLESS if headless else BODIES
        index = (b // 3) % len(table)
        self._say(client, [self.world.malformed(client, table[index], headless=headless)], c)
        return f"{headless}{index}"

    def garbage(self, a: int, b: int, c: int) -> str:
        client = self.client(a)
        if client is None or client.upgrading:
            return ""
        if isinstance(client, Http2Client):
            for stream in client.streams.values():
                stream.request.tainted = True
        self.world.wild(client, WORDS[b % len(WORDS)] if b < 200 else bytes((b, c)))
        return f"{b % len(WORDS)}"

    def talk(self, a: int, b: int, c: int) -> str:
        client = self.client(a)
        if isinstance(client, Http2Client):
            return client.play(b, c)
        if client is None or not (client.tunnel is not None or client.upgrading):
            return ""
        client.say(pattern(f"t{a % CLIENTS}.{len(client.early)}", SIZES[b % len(SIZES)]))
        return f"{client.tunnel is not None}"

    def half_close(self, a: int, _: int, __: int) -> str:
        client = self.client(a)
        if client is None:
            return ""
        client.finish()
        return client.state()

    def leave(self, a: int, b: int, _: int) -> str:
        client = self.world.clients[a % CLIENTS]
        if client is None or client.gone:
            return ""
        state = client.state()
        client.close(reset=b & 1 == 1)
        self.world.clients[a % CLIENTS] = None
        return f"{b & 1}{state}"

    def stall(self, a: int, b: int, _: int) -> str:
        client = self.world.clients[a % CLIENTS]
        if client is None:
            return ""
        client.stall(stalled=b & 1 == 1)
        return f"{b & 1}"

    # ------------------------------------------------------------------------------------------------------- servers

    def answer(self, a: int, b: int, c: int) -> str:
        if self.world.variant.h2:
            return self._answer_call(a, b, c)
        conn = self.conn(a, lambda conn: conn.busy and conn.answer is None and not conn.upgraded)
        if conn is None:
            return ""
        request, world = conn.request, self.world
        shape = SHAPES[b % len(SHAPES)]
        early = "" if conn.complete else "early"
        if shape.status == 101:
            return self._switch(conn, early=bool(shape.wrong))
        size = 0 if shape.framing == "none" else LENGTHS[(b // len(SHAPES)) % len(LENGTHS)]
        answer = world.answer(
            request, shape.status, pattern(f"a{world.numbers + 1}", size), by_end=shape.framing == "end"
        )
        bodyless = request is not None and request.method == b"HEAD"
        conn.last = shape.last
        if shape.status == 401 and request is not None:
            conn.owner = world.sender.get(request.number)
        self._spoil(conn, answer, shape, bodyless=bodyless)
        wire = self._wire(answer, shape, bodyless=bodyless)
        cut = 0 if shape.wrong == "glued" else c
        conn.say(wire, answer, 0 if cut == 0 else len(wire) - max(1, len(wire) * cut // 256))
        return f"{b % len(SHAPES)}{early}{'cut' if cut else ''}"

    def _answer_call(self, a: int, b: int, c: int) -> str:
        call = self.call(a)
        if call is None:
            return ""
        shapes, lengths = http2_servers.SHAPES, http2_servers.LENGTHS
        early = "" if call.complete else "early"
        told = call.conn.respond(call, shapes[b % len(shapes)], lengths[b // len(shapes) % len(lengths)], c)
        return f"{b % len(shapes)}{early}{told}" if told else ""

    def _spoil(self, conn: ServerConn, answer: Answer, shape: Shape, *, bodyless: bool) -> None:
        """Let the oracle know what is wrong with an answer."""
        if (shape.last and not conn.complete) or shape.status in self.world.variant.retried:
            self.world.fault(conn)  # closing with unread bytes is a reset; another server may fail
        if not shape.wrong or (bodyless and shape.wrong in {"cut", "chunk"}):
            return
        conn.spoiled = shape.wrong not in {"cut", "interims"}
        if shape.wrong == "glued":
            return  # the answer itself is good
        self.world.fault(conn)
        if shape.wrong != "interims":
            answer.valid = False
        if shape.wrong in NO_ANSWER:
            answer.status = -1

    def _wire(self, answer: Answer, shape: Shape, *, bodyless: bool) -> bytes:
        """Return the bytes of an answer."""
        if shape.wrong == "garbage":
            return b"garbage\r\n\r\n" * (1 + len(answer.body))
        fields, coded = shape.fields, answer.body
        if shape.framing == "chunked":
            fields += b"Transfer-Encoding: chunked\r\n"
            coded = _chunked(answer.body)
        elif shape.framing == "length":
            fields += b"Content-Length: %d\r\n" % (len(answer.body) + (1000 if shape.wrong == "cut" else 0))
        if shape.wrong == "chunk":
            coded = coded[:-5] + b"zz\r\n"
        head = b"HTTP/1.%d %d OK\r\nX-Fuzz: %d\r\n%s\r\n" % (shape.minor, shape.status, answer.number, fields)
        wire = shape.before + head + (b"" if bodyless else coded)
        if shape.wrong == "glued":
            wire += self._evil()
        return wire

    def _evil(self) -> bytes:
        """Return an answer that no request asked for."""
        evil = self.world.answer(None, 200, b"evil!")
        return b"HTTP/1.1 200 OK\r\nX-Fuzz: %d\r\nContent-Length: 5\r\n\r\nevil!" % evil.number

    def _switch(self, conn: ServerConn, *, early: bool) -> str:
        """Agree to another protocol, whether asked or not."""
        request, world = conn.request, self.world
        client = None if request is None else world.sender.get(request.number)
        asked = request is not None and request.upgrade and client is not None
        answer = world.answer(request, 101, valid=asked)
        wire = b"HTTP/1.1 101 Switching Protocols\r\nX-Fuzz: %d\r\n%s\r\n" % (answer.number, UPGRADE)
        extra = pattern("first", 300) if early else b""
        if asked:
            assert client is not None
            world.upgraded[answer.number] = conn
            conn.upgrade(client, extra)
        else:
            world.fault(conn)
            conn.spoiled = True
            conn.deaf = conn.strange
        conn.say(wire + extra, answer)
        conn.take()
        return f"101{asked}"

    def answer_on(self, a: int, b: int, _: int) -> str:
        conn: ServerConn | Http2ServerConn | None
        if self.world.variant.h2:
            held = [session for session in self.world.sessions if session.held]
            conn = held[a % len(held)] if held else None
        else:
            conn = self.conn(a, lambda conn: conn.held > 0)
        if conn is None:
            return ""
        conn.held = (0, max(0, conn.held - 1), conn.held // 2, conn.held * 7 // 8)[b % 4]
        conn.flush()
        return f"{b % 4}"

    def interim(self, a: int, b: int, _: int) -> str:
        if self.world.variant.h2:
            call = self.call(a)
            return "" if call is None else call.conn.interim(call, b)
        conn = self.conn(a, lambda conn: conn.busy and conn.answer is None and not conn.upgraded)
        if conn is None:
            return ""
        conn.say(b"HTTP/1.1 %d X\r\nX: y\r\n\r\n" % (100, 102, 103)[b % 3], None)
        return f"{b % 3}"

    def server_ends(self, a: int, b: int, _: int) -> str:
        if self.world.variant.h2:
            session = self.session(a)
            return "" if session is None else session.state() + session.part(b)
        conn = self.conn(a, lambda _: True)
        if conn is None:
            return ""
        state = conn.state()
        if conn.upgraded:
            if b % 3 == 0:
                if not conn.out:
                    conn.finish()
            else:
                self.oracle.trouble += 1
                conn.close(reset=b % 3 == 1)
            return f"tunnel{b % 3}"
        self.world.fault(conn)
        answer = conn.answer
        if answer is not None and answer.valid and not conn.answered and conn.finished is None:
            # Without a reset, what has been sent of an answer that ends with the connection is all of it.
            # A Unix socket has no reset that its peer could tell from an end.
            answer.valid = answer.by_end and (b % 3 != 1 or self.world.variant.unix) and conn.clean
            if answer.by_end:
                answer.body = answer.body[: max(0, len(answer.body) - len(conn.out))]
        if b % 3 == 0:
            conn.finish()
        else:
            conn.close(reset=b % 3 == 1)
        return f"{b % 3}{state}"

    def _waits(self) -> bool:
        """Whether a request may be on its way to a server: one behind an answer that its client reads slowly, say."""
        due = sum(len(client.requests) - client.next for client in self.world.clients if client is not None)
        return due > sum(conn.busy for origin in self.world.origins for conn in origin.conns)

    def unsolicited(self, a: int, b: int, c: int) -> str:
        if self.world.variant.h2:
            session = self.session(a)
            return "" if session is None else session.spoil(b, c)
        conn = self.conn(a, lambda conn: conn.rests)
        if conn is None:
            return ""
        self.world.step()  # a request that is on its way would take it for its answer
        if not conn.rests or self._waits():
            return ""
        conn.spoiled = True
        conn.out += self._evil()[: 1 + b]
        conn.flush()
        self.world.step()
        return "said"

    def server_stalls(self, a: int, b: int, _: int) -> str:
        conn = self.session(a) if self.world.variant.h2 else self.conn(a, lambda _: True)
        if conn is None:
            return ""
        conn.stall(stalled=b & 1 == 1)
        return f"{b & 1}"

    def listener(self, a: int, b: int, _: int) -> str:
        origin = self.world.origins[a % SERVERS]
        match b % 4:
            case 0 if origin.up:
                self.oracle.trouble += 1
                origin.close()
            case 1 if not origin.up:
                self.oracle.trouble += 1
                origin.open()
            case 2 | 3:
                origin.greeting = b >> 2 & 0x0F
                origin.hold(holding=b % 4 == 2, narrow=b & 64 != 0)
        return f"{b % 4}"

    def record(self, a: int, b: int, c: int) -> str:
        """Records of TLS from a server are cut, go on, are spoiled, or the connection is to end without close_notify."""
        if not self.world.variant.secure:
            return ""
        conn = self.session(a) if self.world.variant.h2 else self.conn(a, lambda conn: not conn.upgraded)
        if conn is None or not conn.sends or not isinstance(conn.sock, TlsSocket):
            return ""
        match b % 4:
            case 0:
                conn.sock.keep = 1 + c
            case 1:
                conn.cut(0)
            case 2:
                conn.sock.curt = True
            case _ if isinstance(conn, ServerConn) and not conn.greets:
                self._break(conn, c)
        return f"{b % 4}{conn.greets}"

    def _break(self, conn: ServerConn, which: int) -> None:
        self.world.fault(conn)
        self.oracle.trouble += 1
        if conn.answer is not None and not conn.answered:
            conn.answer.valid = False
        conn.spoiled = True
        assert isinstance(conn.sock, TlsSocket)
        with suppress(OSError):
            conn.sock.spoil(which)
        conn.torn = True

    def server_talks(self, a: int, b: int, c: int) -> str:
        if self.world.variant.h2:
            session = self.session(a)
            return "" if session is None else session.play(b, c)
        conn = self.conn(a, lambda conn: conn.upgraded and conn.finished is None and not conn.broken)
        if conn is None:
            return ""
        data = pattern(f"u{len(conn.said)}", SIZES[b % len(SIZES)])
        conn.said += data
        conn.out += data
        conn.flush()
        return "said"

    # ----------------------------------------------------------------------------------------------------- the worker

    def time(self, _: int, b: int, __: int) -> str:
        self.world.skip(TIMES[b % len(TIMES)])
        return f"{TIMES[b % len(TIMES)]}"

    def reload(self, _: int, b: int, __: int) -> str:
        if self.world.drained:
            return ""
        if not all(origin.up and not origin.narrow for origin in self.world.origins):
            self.oracle.trouble += 1  # what has met a closed port may be told of it only now
        self.world.greet()
        self.world.site.reload(b % 3)
        return f"{b % 3}"

    def drain(self, _: int, b: int, __: int) -> str:
        if b < 200 and not self.world.drained:
            return ""
        self.oracle.trouble += 1
        if not self.world.drained:
            self.world.drained = True
            self.world.site.drain()
        else:
            self.world.site.retire()
        return "drain"

    def look(self, _: int, __: int, ___: int) -> str:
        return ""


WHAT: tuple[str, ...] = (
    *("request",) * 15, *("answer",) * 15, *("connect",) * 5, *("go_on",) * 3, "record", *("answer_on",) * 3, "malformed", "malformed",
    "garbage", "talk", "half_close", "leave", "leave", "stall", "interim", "server_ends", "server_ends", "unsolicited",
    "server_stalls", "listener", "listener", *("server_talks",) * 4, "time", "reload", "drain",
)  # fmt: skip
assert len(WHAT) == 64
OPERATION = {name: WHAT.index(name) for name in WHAT}


@dataclass(frozen=True, slots=True)
class Event:
    """One of an input, as it will be done."""

    name: str
    who: int
    how: int
    cut: int
    rounds: int

    def __str__(self) -> str:
        seen = {0: " unseen", 1: " once"}.get(self.rounds, "")
        return f"{self.name} {self.who} {self.how} {self.cut}{seen}"


def events(data: bytes) -> Iterator[Event]:
    """Read the events of an input."""
    for at in range(GRAIN, len(data) - GRAIN + 1, GRAIN):
        op, a, b, c = data[at : at + GRAIN]
        yield Event(WHAT[op & 63], a, b, c, 0 if op & ALONE else 1 if op & ONCE else 3)


def encode(text: str) -> bytes:
    """Read an input from its written form: its kind of site, then an event on each line."""
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    names = [variant.name for variant in VARIANTS]
    data = bytes((names.index(lines[0][0]), 0, 0, 0))
    for name, who, how, cut, *marks in lines[1:]:
        flags = ALONE if "unseen" in marks else ONCE if "once" in marks else 0
        data += event(name, int(who), int(how), int(cut), flags)
    return data


def written(data: bytes) -> str:
    """Return the written form of an input."""
    variant = VARIANTS[data[0] % len(VARIANTS) if data else 0]
    return "".join(f"{line}\n" for line in (variant.name, *events(data)))


def event(name: str, who: int = 0, how: int = 0, cut: int = 0, flags: int = 0) -> bytes:
    """Return the bytes of an event."""
    return bytes((OPERATION[name] | flags, who, how, cut))


_site: Site | None = None
_inherited: list[Site | None] = []
"""Those of parent processes: what they own must not be taken away when they go."""
counted = 0
"""Events that have been run in this process."""


def site() -> Site:
    """Return the one site of the process."""
    global _site  # noqa: PLW0603
    if _site is None or _site.pid != os.getpid():
        _inherited.append(_site)
        _site = Site()
    return _site


def world(data: bytes) -> World:
    """Return the world that an input asks for."""
    return World(site(), VARIANTS[data[0] % len(VARIANTS) if data else 0])


def perform(run: Run, what: Event) -> str:
    """Do one event, and let the gateway look as often as it says; return what became of it."""
    told: str = getattr(run, what.name)(what.who, what.how, what.cut)
    if what.rounds:
        run.world.step(what.rounds)
    return told


def run(data: bytes) -> frozenset[str]:
    """Run an input; return what was new and remarkable in it. Raises Violation."""
    global counted  # noqa: PLW0603
    place = site()
    made = world(data)
    at_work = Run(made)
    features = made.oracle.features
    last = ""
    try:
        for what in events(data):
            counted += 1
            told = perform(at_work, what)
            if told:
                features.add(f"{what.name} {told} {what.rounds}")
                features.add(f"{last} {what.name}")
                last = what.name
        made.settle()
        made.finish()
    except Exception:
        with suppress(Exception):
            made.close()
        place.renew()
        raise
    return frozenset(f"{made.variant.name} {feature}" for feature in features)


def seeds() -> list[bytes]:
    """Return inputs to start from: the ordinary lives of connections, on every kind of site."""
    lives = (
        ("connect", "request", "answer", "request", "answer 5"),
        ("connect", "request 15", "answer", "answer", "answer"),
        ("connect", "request 4", "request 46", "answer", "answer"),
        ("connect", "request 13", "answer 12", "talk 3", "server_talks 3", "server_ends", "talk 4"),
        ("connect", "request 18", "server_stalls 1", "connect/1", "request/1", "answer", "leave", "answer"),
        ("connect", "connect/1", "connect/2", "request", "request/1", "request/2", "leave/1", "answer", "answer"),
        ("connect 1", "request", "stall 1", "answer 160", "time 3", "stall"),
        ("connect", "request", "server_ends 1", "answer", "request", "reload 1", "answer", "drain 255", "time 4"),
        ("connect", "request", "malformed 4", "answer"),
        ("connect", "request", "half_close", "answer"),
        (
            "listener 66",
            "listener/1 66",
            "connect",
            *("connect/1", "connect/2"),
            "request/1",
            "request/2",
            "request 18",
            "time 4",
            "listener 67",
            "listener/1 67",
            "answer",
        ),
        ("listener 0", "connect", "request", "answer", "listener 1", "request 4", "unsolicited 80", "answer 20"),
        ("connect", "request 15", "request 4", "talk 0", "answer/2", "answer/1", "talk 1", "answer", "answer"),
        ("connect 64", "request", "request 46", "answer 160", "talk 6", "talk 2", "answer", "time 3", "talk 3"),
        ("connect", "request 15", "reload 2", "answer", "request", "time 4", "answer", "answer", "time 4", "connect/1"),
        (
            "connect",
            "request 15",
            "server_talks 7",
            "answer",
            "request",
            "answer/1",
            "server_talks 5",
            "unsolicited",
            "answer",
        ),
        (
            "listener 23",
            "connect",
            "request",
            "request 46",
            "answer 5",
            "server_talks 1",
            "unsolicited 1",
            "answer 160",
            "answer",
        ),
    )
    made = []
    for number in range(len(VARIANTS)):
        for life in lives:
            data = bytes((number, 0, 0, 0))
            for step in life:
                name, _, how = step.partition(" ")
                name, _, who = name.partition("/")
                data += event(name, int(who or 0), int(how or 0))
            made.append(data)
    return made


def words() -> list[bytes]:
    """Return events to put in."""
    found = [event(name, who, how) for name in OPERATION for who in range(3) for how in (0, 1, 2, 3)]
    found += [event("request", who, how) for who in range(3) for how in range(len(ASKS))]
    found += [
        event("answer", who, how) for who in range(2) for how in range(max(len(SHAPES), len(http2_servers.SHAPES)))
    ]
    found += [event("record", who, how, cut) for who in range(2) for how in range(4) for cut in (0, 1, 5, 20)]
    found += [event("server_talks", who, how, cut) for who in range(2) for how in range(10) for cut in range(5)]
    found += [event("unsolicited", who, how, cut) for who in range(2) for how in range(3) for cut in range(9)]
    found += [event("listener", who, 4 * greeting + 3) for who in range(2) for greeting in range(9)]
    return found
