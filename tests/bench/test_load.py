"""The load generator against servers that it did not come with, and the origin with clients that it did not come with."""

import asyncio
import contextlib
import ssl
import time

import httpx
import pytest
from websockets.asyncio.server import serve

from bench.farm import origin
from bench.load import BROWSER, Generator, Load, LoadFailed
from tests.support.certificates import Authority
from tests.support.programs import needs, needs_header

pytestmark = [needs("cc", "taskset"), needs_header("openssl/ssl.h", "libssl-dev")]
CORES = "0"


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return Generator(tmp_path_factory.mktemp("load"), CORES)


@contextlib.asynccontextmanager
async def server(answer, *, context=None):
    """A server that says `answer(head, body)` to every request; its connections are counted."""
    connections = []

    async def handle(reader, writer):
        connections.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = head.decode().lower().split("\r\n")
                length = next((int(line[15:]) for line in fields if line.startswith("content-length:")), 0)
                writer.write(await answer(head, await reader.readexactly(length)))
                if "connection: close" in fields:
                    break
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context, limit=1 << 21) as listening:
        yield listening.sockets[0].getsockname()[1], connections


def ok(body=b"hello"):
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def run(generator, load, port):
    return await asyncio.to_thread(generator.run, load, port)


async def test_every_request_is_counted_and_is_a_browsers(generator):
    heads = []

    async def answer(head, _):
        heads.append(head)
        return ok()

    async with server(answer) as (port, connections):
        outcome = await run(generator, Load("/x", connections=8, requests=100), port)
    assert (outcome.requests, outcome.errors, outcome.connects) == (100, 0, 0)
    assert len(heads) == 108  # one on each connection before the measured ones
    assert len(connections) == 8
    names = [line.partition(b":")[0] for line in heads[0].split(b"\r\n")[1:-2]]
    assert len(set(names)) == 13
    assert b"Host" in names
    assert heads[0].startswith(b"GET /x HTTP/1.1\r\n")
    assert len(BROWSER) == 12


async def test_a_stall_counts_for_every_request_that_it_keeps_waiting(generator):
    """200 a second for a second, and the server stops for 300 ms: 30 % of them wait, a tenth more than 200 ms."""
    asked = 0

    async def answer(_head, _body):
        nonlocal asked
        asked += 1
        if asked == 80:
            time.sleep(0.3)  # noqa: ASYNC251 - no request is served meanwhile: that is the point
        return ok()

    async with server(answer) as (port, _):
        outcome = await run(generator, Load("/", connections=4).at(200, 1.0), port)
    assert outcome.requests == 200
    assert outcome.p90 > 150_000
    assert outcome.p50 < 100_000
    assert outcome.p90 <= outcome.p99 <= outcome.p999 <= outcome.longest * 1.01


async def test_wrong_answers_are_errors(generator):
    count = 0

    async def answer(_head, _body):
        nonlocal count
        count += 1
        return ok() if count != 7 else b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"

    async with server(answer) as (port, _):
        outcome = await run(generator, Load("/", connections=2, requests=10), port)
    assert (outcome.requests, outcome.errors, outcome.connects) == (9, 1, 1)


async def test_a_server_that_refuses_all_is_said(generator):
    async def answer(_head, _body):
        return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"

    async with server(answer) as (port, _):
        with pytest.raises(LoadFailed, match="4 errors in the warm-up"):
            await run(generator, Load("/", connections=4, requests=10), port)


async def test_uploads_arrive_whole(generator):
    sizes = []

    async def answer(_head, body):
        sizes.append(len(body))
        return ok()

    async with server(answer) as (port, _):
        outcome = await run(generator, Load("/sink", connections=2, requests=5, upload=300_000), port)
    assert outcome.requests == 5
    assert sizes == [300_000] * 7


@pytest.mark.parametrize("resume", [False, True])
async def test_handshakes_are_full_or_resumed_as_wanted(generator, tmp_path, resume):
    context = Authority(tmp_path).issue("localhost")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(context.cert, context.key)

    async def answer(_head, _body):
        return ok()

    load = Load("/", connections=4, requests=20, tls=True, fresh=True, resume=resume)
    async with server(answer, context=tls) as (port, connections):
        outcome = await run(generator, load, port)
    assert (outcome.requests, outcome.errors, outcome.handshakes) == (20, 0, 20)
    assert outcome.resumed == (20 if resume else 0)
    assert len(connections) == 24


async def test_messages_come_back_from_a_websocket_server(generator):
    seen = []

    async def echo(connection):
        async for message in connection:
            seen.append(message)
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        outcome = await run(generator, Load("/", connections=3, requests=50, message=100), port)
    assert (outcome.requests, outcome.errors) == (50, 0)
    assert seen == [b"x" * 100] * 53


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with origin(tmp_path_factory.mktemp("origin"), 300, CORES) as (port, _):
        yield port


def test_origin_serves_every_size_and_counts(port):
    stats = f"http://127.0.0.1:{port}/stats"
    connections, requests = map(int, httpx.get(stats).text.split())
    with httpx.Client() as client:
        for size in (0, 1, 130, 10_000, 1 << 20, 3_000_000):
            assert client.get(f"http://127.0.0.1:{port}/bytes/{size}").content == b"x" * size
        assert client.post(f"http://127.0.1.50:{port}/sink", content=b"y" * 500_000).content == b"xx"
    assert httpx.get(stats).text == f"{connections + 2} {requests + 7}\n"


async def test_origin_sends_messages_back(port):
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    frame = bytes((0x82, 0x85)) + b"\1\2\3\4" + bytes(a ^ b for a, b in zip(b"hello", b"\1\2\3\4\1", strict=True))
    for piece in (frame, frame[:3], frame[3:], frame + frame[:8], frame[8:]):
        writer.write(piece)
        await writer.drain()
    assert await reader.readexactly(28) == b"\x82\x05hello" * 4
    writer.close()
