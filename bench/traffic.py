"""Mixed traffic for the soak: polite clients whose every answer is checked, and rude ones who break every rule.

What happens to a request is its *outcome*: a status as text, or one of ECHOED, CLOSED, TRUNCATED, TIMEOUT, WRONG, GONE.
"""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.support.origin import filler

ECHOED = "echoed"  # every message came back through a tunnel
CLOSED = "closed"  # the connection ended before an answer
TRUNCATED = "truncated"  # it ended, visibly, within one
TIMEOUT = "timeout"
WRONG = "wrong"  # the answer is complete, but not what was asked for
GONE = "gone"  # the client left, as it wanted to

LIMIT = 20.0
HEAD = b"Host: localhost\r\n"
DISTURBED = frozenset({"502", "503", "504", CLOSED, TRUNCATED})
"""Outcomes that a dead server or worker explains."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Results:
    """Outcomes by kind of request; `until` is the end of the last disturbance (time.monotonic)."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    until: float = 0.0

    def add(self, kind: str, outcome: str, expected: frozenset[str], began: float) -> None:
        """Count an outcome of a request that began then; DISTURBED ones are expected during a disturbance."""
        self.outcomes.setdefault(kind, Counter())[outcome] += 1
        if outcome in expected or (outcome in DISTURBED and began <= self.until):
            return
        self.unexpected.append(f"{kind}: {outcome} at {time.monotonic():.2f} (began {began:.2f})")


@dataclass(frozen=True, slots=True)
class Kind:
    """A polite request: what is sent, and the body that must come back (None: any) with `status`."""

    name: str
    request: bytes
    status: str = "200"
    body: bytes | None = None
    head: bool = False


def _get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\n".encode() + HEAD + b"\r\n"


def _post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode() + HEAD + b"\r\n" + body


CHUNKED = b"POST /sink HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD + b"\r\n"
KINDS = (
    Kind("GET", _get("/")),
    Kind("GET 100 kB", _get("/bytes/100000"), body=filler(100_000)),
    Kind("GET chunked", _get("/chunked/20000"), body=filler(20_000)),
    Kind("GET until close", _get("/close-delimited/5000"), body=filler(5000)),
    Kind("GET late", _get("/delay/0.05")),
    Kind("HEAD", _get("/bytes/1000", "HEAD"), head=True),
    Kind("POST", _post("/sink", b"x" * 50_000), body=b"50000"),
    Kind("POST chunked", CHUNKED + b"3e8\r\n" + b"y" * 1000 + b"\r\n0\r\n\r\n", body=b"1000"),
    Kind("304", _get("/status/304"), "304", b""),
    Kind("404", _get("/status/404"), "404", b""),
)


class Broken(Exception):
    """The connection ended before the answer did; `outcome` says where."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


async def answer(reader: asyncio.StreamReader, *, head: bool = False) -> tuple[str, bytes, bool]:
    """Read one answer: status, body, whether the connection stays. Raises Broken, OSError."""
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        partial = error.partial if isinstance(error, asyncio.IncompleteReadError) else b""
        raise Broken(TRUNCATED if partial else CLOSED) from None
    status = text[9:12]
    fields = dict(line.split(": ", 1) for line in text.split("\r\n")[1:] if ": " in line)
    keep = fields.get("connection") != "close"
    if head or status in {"204", "304"}:
        return status, b"", keep
    try:
        if "transfer-encoding" in fields:
            body = await _chunks(reader)
        elif "content-length" in fields:
            body = await reader.readexactly(int(fields["content-length"]))
        else:
            body = await reader.read()
    except (asyncio.IncompleteReadError, ConnectionError):
        raise Broken(TRUNCATED) from None
    return status, body, keep


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return bytes(body)


async def polite(port: int, results: Results, stop: asyncio.Event, chance: random.Random) -> None:
    """Ask for something of every kind, again and again, on a connection that is kept as long as it may be."""
    streams: Streams | None = None
    while not stop.is_set():
        kind = chance.choice(KINDS)
        began = time.monotonic()
        keep = False
        try:
            async with asyncio.timeout(LIMIT):
                if streams is None:
                    streams = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
                streams[1].write(kind.request)
                status, body, keep = await answer(streams[0], head=kind.head)
            wrong = status == kind.status and kind.body is not None and body != kind.body
            results.add(kind.name, WRONG if wrong else status, frozenset({kind.status}), began)
        except Broken as error:
            results.add(kind.name, error.outcome, frozenset(), began)
        except TimeoutError:
            results.add(kind.name, TIMEOUT, frozenset(), began)
        except OSError:
            results.add(kind.name, CLOSED, frozenset(), began)
            await asyncio.sleep(0.05)
        if not keep and streams is not None:
            streams[1].close()
            streams = None
        await asyncio.sleep(chance.uniform(0.0, 0.02))
    if streams is not None:
        streams[1].close()


@asynccontextmanager
async def _connected(port: int, receive_buffer: int = 0) -> AsyncIterator[Streams]:
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
    try:
        yield reader, writer
    finally:
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a TCP reset."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


Exchange = Callable[[int, random.Random], Awaitable[str]]


def _says(data: bytes) -> Exchange:
    """Return an exchange: send `data`, and take the answer."""

    async def exchange(port: int, _: random.Random) -> str:
        async with _connected(port) as (reader, writer):
            writer.write(data)
            return (await answer(reader))[0]

    return exchange


async def _stall_in_head(port: int, _: random.Random) -> str:
    async with _connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: loc")
        return (await answer(reader))[0]


async def _stall_in_silence(port: int, _: random.Random) -> str:
    async with _connected(port) as (reader, _writer):
        return (await answer(reader))[0]


async def _leave_in_head(port: int, chance: random.Random) -> str:
    async with _connected(port) as (_, writer):
        writer.write(_get("/")[: chance.randrange(1, 20)])
        await asyncio.sleep(0.05)
        _reset(writer)
    return GONE


async def _leave_in_body(port: int, chance: random.Random) -> str:
    async with _connected(port) as (_, writer):
        writer.write(_post("/sink", b"x" * 50_000)[: chance.randrange(100, 40_000)])
        await asyncio.sleep(0.05)
        _reset(writer)
    return GONE


async def _leave_while_waiting(port: int, _: random.Random) -> str:
    async with _connected(port) as (_reader, writer):
        writer.write(_get("/delay/1"))
        await asyncio.sleep(0.1)
        _reset(writer)
    return GONE


async def _read_slowly(port: int, _: random.Random) -> str:
    async with _connected(port, 4096) as (reader, writer):
        writer.write(_get("/bytes/5000000"))
        with contextlib.suppress(OSError):
            for _step in range(20):
                if not await reader.read(2000):
                    break
                await asyncio.sleep(0.1)
        _reset(writer)
    return GONE


async def _leave_in_pipeline(port: int, _: random.Random) -> str:
    async with _connected(port) as (reader, writer):
        writer.write(_get("/") * 10)
        status = (await answer(reader))[0]
        _reset(writer)
    return status


STALLED = frozenset({"408", CLOSED, TRUNCATED})
BAD = frozenset({"400"})
RUDE: tuple[tuple[str, Exchange, frozenset[str]], ...] = (
    ("stall in head", _stall_in_head, STALLED),
    ("stall in silence", _stall_in_silence, STALLED),
    ("leave in head", _leave_in_head, frozenset({GONE})),
    ("leave in body", _leave_in_body, frozenset({GONE})),
    ("leave while waiting", _leave_while_waiting, frozenset({GONE})),
    ("read slowly, leave", _read_slowly, frozenset({GONE})),
    ("leave in pipeline", _leave_in_pipeline, frozenset({"200"})),
    ("garbage", _says(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 4 + b"\r\n\r\n"), BAD),
    ("two framings", _says(_post("/", b"0\r\n\r\n").replace(HEAD, HEAD + b"Transfer-Encoding: chunked\r\n")), BAD),
    ("bare LF", _says(b"GET / HTTP/1.1\nHost: localhost\n\n"), BAD),
    ("bad chunk", _says(CHUNKED + b"5\r\nhelloXX0\r\n\r\n"), BAD | {CLOSED}),
    ("large head", _says(b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"x" * 60_000 + b"\r\n\r\n"), frozenset({"431"})),
    ("server truncates", _says(_get("/truncated/100000")), frozenset({TRUNCATED})),
    ("server resets", _says(_get("/reset")), frozenset({"502"})),
    ("server closes", _says(_get("/close")), frozenset({"502"})),
    ("server talks garbage", _says(_get("/garbage")), frozenset({"502"})),
    ("server hangs", _says(_get("/hang")), frozenset({"504"})),
    ("server answers early", _says(_post("/refuse/413", b"x" * 30_000)), frozenset({"413"})),
)


async def rude(port: int, results: Results, stop: asyncio.Event, chance: random.Random) -> None:
    """Do one rude thing after the other."""
    while not stop.is_set():
        kind, exchange, expected = chance.choice(RUDE)
        began = time.monotonic()
        try:
            async with asyncio.timeout(LIMIT):
                outcome = await exchange(port, chance)
        except Broken as error:
            outcome = error.outcome
        except TimeoutError:
            outcome = TIMEOUT
        except OSError:
            outcome = CLOSED
        results.add(kind, outcome, expected, began)
        await asyncio.sleep(chance.uniform(0.0, 0.1))


async def tunnel(port: int, results: Results, stop: asyncio.Event, chance: random.Random) -> None:
    """Talk through a WebSocket for some seconds, again and again; reloads meanwhile must not cut it."""
    while not stop.is_set():
        began = time.monotonic()
        end = began + chance.expovariate(0.3)
        outcome = ECHOED
        try:
            async with asyncio.timeout(end - began + LIMIT), connect(f"ws://127.0.0.1:{port}/ws") as client:
                while time.monotonic() < end and not stop.is_set():
                    message = chance.randbytes(chance.randrange(1, 50_000))
                    await client.send(message)
                    if await client.recv() != message:
                        outcome = WRONG
                    await asyncio.sleep(chance.uniform(0.0, 0.2))
        except TimeoutError:
            outcome = TIMEOUT
        except (WebSocketException, OSError):
            outcome = CLOSED
        results.add("WebSocket", outcome, frozenset({ECHOED}), began)
