"""A scriptable HTTP/1.1 server, run as a program: `python -m tests.support.origin NAME HOST PORT DIRECTORY`.

The path says how it answers; every answer carries `X-Server: NAME` and `X-Connection:` with the number of the
connection. It speaks HTTP by hand, so that tests see exactly the bytes that a gateway sent, and get
exactly the bytes that they asked for, broken ones included.

    /bytes/N            N bytes, with Content-Length
    /chunked/N          N bytes in chunks of at most 1000, /trailers/N with a trailer field as well
    /close-delimited/N  N bytes that end with the connection
    /delay/SECONDS      the name, that much later
    /when/FILE          the name, as soon as that file is in the server's directory
    /drip/N/SECONDS     N bytes, one by one, SECONDS apart
    /status/N           that status; the body is empty
    /refuse/N           that status before the body was read, then the connection closes
    /interim/N          a 103 with a Link field, then N bytes
    /echo               the request exactly as it came, head and body
    /headers            the head of the request exactly as it came
    /sink?rate=BYTES    the number of body bytes, read at `rate` bytes a second (without it: at once)
    /set-header/NAME/VALUE  the name, with that field in the head
    /truncated/N        promises N bytes, sends half, closes
    /reset              a TCP reset instead of an answer; /close: the connection closes without a word
    /garbage            no HTTP at all
    /hang               nothing, until the end
    anything else       the name

It ends when its standard input does, hence never outlives the test run.
"""

import asyncio
import contextlib
import json
import mmap
import re
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import uvloop

HEAD_LIMIT = 1 << 20
KEPT_BODY = 1 << 20  # bytes of a body that are kept for /echo and the record
KEPT_REQUESTS = 2000  # requests that are recorded in full; all are counted
COUNTERS = struct.Struct("QQ")  # connections, requests
CHUNK = 1000
PATTERN = bytes(range(97, 123)) * 40


def filler(size: int) -> bytes:
    """Return `size` bytes that are easy to tell from other bytes: the alphabet, over and over."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


class Record:
    """What came in, in files that outlive a kill: `NAME.count` (mapped) and `NAME.requests` (JSON lines)."""

    def __init__(self, directory: Path, name: str) -> None:
        path = directory / f"{name}.count"
        path.touch()
        if path.stat().st_size < COUNTERS.size:
            path.write_bytes(bytes(COUNTERS.size))
        with path.open("r+b") as file:
            self._counters = mmap.mmap(file.fileno(), COUNTERS.size)
        self._lines = (directory / f"{name}.requests").open("a", buffering=1)
        self._kept = 0

    def connection(self) -> int:
        """Count a connection and return its number, from 1."""
        connections, requests = COUNTERS.unpack(self._counters)
        self._counters[:] = COUNTERS.pack(connections + 1, requests)
        return int(connections) + 1

    def request(self) -> None:
        """Count a request, as soon as its head is there."""
        connections, requests = COUNTERS.unpack(self._counters)
        self._counters[:] = COUNTERS.pack(connections, requests + 1)

    def keep(self, request: "Request") -> None:
        """Write a finished request down."""
        if self._kept < KEPT_REQUESTS:
            self._kept += 1
            line = {
                "connection": request.connection,
                "head": request.head.decode("latin-1"),
                "body": bytes(request.body).decode("latin-1"),
                "size": request.size,
            }
            self._lines.write(json.dumps(line) + "\n")


@dataclass(slots=True)
class Request:
    """One request: `body` is its beginning as it came, framing included; `size` counts the decoded bytes."""

    connection: int
    head: bytes
    method: str
    path: list[str]
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)
    size: int = 0


def parse(connection: int, head: bytes) -> Request:
    """Take a head apart. Good enough for what a gateway sends; it is the gateway that has to be strict."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    parts = urlsplit(target)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    path = [unquote(part) for part in parts.path.strip("/").split("/")]
    return Request(connection, head, method, path, parse_qs(parts.query), headers)


class Connection:
    """One client connection: requests one after the other until one side closes."""

    def __init__(self, name: str, record: Record, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._name = name
        self._record = record
        self._reader = reader
        self._writer = writer
        self._number = record.connection()
        self._answers: dict[str, Callable[[Request], Awaitable[bool | None]]] = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    async def serve(self) -> None:
        """Answer until the connection ends."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._one():
                pass
        self._writer.close()

    async def _one(self) -> bool:
        request = parse(self._number, await self._reader.readuntil(b"\r\n\r\n"))
        self._record.request()
        kind = re.sub(r"\W", "_", request.path[0])
        answer = self._answers.get(kind, self._answers["name"])
        if kind != "refuse":
            await self._read_body(request)
        self._record.keep(request)
        done = await answer(request)
        return done is not False and request.headers.get("connection", "").lower() != "close"

    async def _read_body(self, request: Request) -> None:
        if request.headers.get("expect", "").lower() == "100-continue":
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        rate = float(request.query.get("rate", ["0"])[0])
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            await self._read_chunks(request, rate)
        else:
            await self._read_exactly(request, int(request.headers.get("content-length", "0")), rate)

    async def _read_chunks(self, request: Request, rate: float) -> None:
        while True:
            line = await self._reader.readuntil(b"\r\n")
            request.body += line
            size = int(line.partition(b";")[0], 16)
            if size == 0:
                break
            await self._read_exactly(request, size, rate)
            request.body += await self._reader.readexactly(2)
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            request.body += line
        request.body += line

    async def _read_exactly(self, request: Request, size: int, rate: float) -> None:
        left = size
        while left:
            data = await self._reader.read(min(left, 1 << 16))
            if not data:
                raise asyncio.IncompleteReadError(data, left)
            left -= len(data)
            request.size += len(data)
            if len(request.body) < KEPT_BODY:
                request.body += data
            if rate:
                await asyncio.sleep(len(data) / rate)

    def _head(self, status: int, *fields: str) -> bytes:
        own = (f"X-Server: {self._name}", f"X-Connection: {self._number}")
        return "\r\n".join((f"HTTP/1.1 {status} Scripted", *own, *fields, "", "")).encode("latin-1")

    async def _send(self, request: Request, body: bytes, *fields: str, status: int = 200) -> None:
        length = () if status < 200 or status in {204, 304} else (f"Content-Length: {len(body)}",)
        head = self._head(status, *length, *fields)
        self._writer.write(head if request.method == "HEAD" else head + body)
        await self._writer.drain()

    async def do_name(self, request: Request) -> None:
        await self._send(request, self._name.encode(), "Content-Type: text/plain")

    async def do_bytes(self, request: Request) -> None:
        await self._send(request, filler(int(request.path[1])))

    async def do_chunked(self, request: Request, *trailers: str) -> None:
        self._writer.write(self._head(200, "Transfer-Encoding: chunked"))
        if request.method == "HEAD":
            return
        body = filler(int(request.path[1]))
        for start in range(0, len(body), CHUNK):
            piece = body[start : start + CHUNK]
            self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self._writer.drain()
        self._writer.write("\r\n".join(("0", *trailers, "", "")).encode("latin-1"))

    async def do_trailers(self, request: Request) -> None:
        await self.do_chunked(request, "X-Trailer: the end")

    async def do_close_delimited(self, request: Request) -> bool:
        self._writer.write(self._head(200, "Connection: close") + filler(int(request.path[1])))
        await self._writer.drain()
        return False

    async def do_delay(self, request: Request) -> None:
        await asyncio.sleep(float(request.path[1]))
        await self.do_name(request)

    async def do_when(self, request: Request) -> None:
        while not Path(request.path[1]).exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.01)
        await self.do_name(request)

    async def do_drip(self, request: Request) -> None:
        size, pause = int(request.path[1]), float(request.path[2])
        self._writer.write(self._head(200, f"Content-Length: {size}"))
        for byte in filler(size):
            await asyncio.sleep(pause)
            self._writer.write(bytes((byte,)))

    async def do_status(self, request: Request) -> None:
        await self._send(request, b"", status=int(request.path[1]))

    async def do_refuse(self, request: Request) -> bool:
        await self._send(request, b"", "Connection: close", status=int(request.path[1]))
        return False

    async def do_interim(self, request: Request) -> None:
        self._writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        await self.do_bytes(request)

    async def do_echo(self, request: Request) -> None:
        await self._send(request, request.head + bytes(request.body))

    async def do_headers(self, request: Request) -> None:
        await self._send(request, request.head)

    async def do_sink(self, request: Request) -> None:
        await self._send(request, str(request.size).encode())

    async def do_set_header(self, request: Request) -> None:
        await self._send(request, self._name.encode(), f"{request.path[1]}: {request.path[2]}")

    async def do_truncated(self, request: Request) -> bool:
        size = int(request.path[1])
        self._writer.write(self._head(200, f"Content-Length: {size}") + filler(size // 2))
        await self._writer.drain()
        return False

    async def do_reset(self, request: Request) -> bool:  # noqa: ARG002
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()
        return False

    async def do_close(self, request: Request) -> bool:  # noqa: ARG002
        return False

    async def do_garbage(self, request: Request) -> bool:  # noqa: ARG002
        self._writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
        await self._writer.drain()
        return False

    async def do_hang(self, request: Request) -> None:  # noqa: ARG002
        await self._reader.read()


async def main(name: str, host: str, port: int, directory: Path) -> None:
    """Serve until standard input ends."""
    record = Record(directory, name)
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Connection(name, record, reader, writer).serve())
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(connected, host, port, limit=HEAD_LIMIT, backlog=1024)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)  # nothing writes to it
    await ended.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
