"""Programs that real sites use, as clients and as servers: what they say through the gateway is what they meant."""

import asyncio
import contextlib
import gzip
import hashlib
import io
import json

import aiohttp
import httpx
import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from tests.support.gateway_process import site
from tests.support.nginx import Nginx
from tests.support.node_server import NodeServer
from tests.support.origin import filler
from tests.support.programs import needs, run
from tests.support.raw import RawClient

LARGE = 5_000_000
TEXT = "what compresses well, " * 1000


@pytest.fixture
def origin(start_servers, lend_gateway):
    (server,) = start_servers("app1")
    return lend_gateway(site([server], workers=1)), server


@pytest.fixture(params=["tcp", "unix", "http2"])
def nginx(request, tmp_path, start_gateway, lend_gateway):
    http2, unix = request.param == "http2", request.param == "unix"
    with Nginx(tmp_path, tmp_path / "nginx.sock" if unix else None, http2=http2) as server:
        (server.files / "small.txt").write_text("small")
        (server.files / "text.txt").write_text(TEXT)
        (server.files / "large.bin").write_bytes(filler(LARGE))
        description = site([server], workers=1, h2=http2)
        # As root, for the socket is in a directory of the test's own.
        yield start_gateway(description | {"user": "root"}) if unix else lend_gateway(description), server


@pytest.fixture(params=["http", "http2"])
def node(request, lend_gateway):
    with NodeServer(request.param) as server:
        yield lend_gateway(site([server], workers=1, h2=request.param == "http2")), request.param


# ----------------------------------------------------------------------------------------------------------- as clients


def test_httpx(origin):
    gateway, _ = origin
    with httpx.Client(base_url=gateway.url()) as client:
        connections = {client.get("/").headers["X-Connection"] for _ in range(20)}
        assert len(connections) == 1
        assert client.get(f"/bytes/{LARGE}").content == filler(LARGE)
        assert client.get("/chunked/100000").content == filler(100000)
        assert client.get("/close-delimited/5000").content == filler(5000)
        assert client.get("/interim/100").content == filler(100)
        head = client.head("/bytes/123")
        assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "123", b"")
        assert client.post("/sink", content=filler(LARGE)).text == str(LARGE)
        assert client.post("/sink", content=iter([b"a" * 1000] * 100)).text == "100000"
        assert client.put("/sink", files={"file": ("name", b"x" * 5000)}).status_code == 200
        for status in (204, 304, 404, 500):
            assert client.get(f"/status/{status}").status_code == status
        with pytest.raises(httpx.HTTPError):
            client.get("/truncated/1000")
        assert client.get("/garbage").status_code == 502
        assert client.get("/").text == "app1"


async def test_httpx_at_the_same_time(origin):
    gateway, _ = origin
    async with httpx.AsyncClient(base_url=gateway.url(), limits=httpx.Limits(max_connections=20)) as client:
        answers = await asyncio.gather(*(client.post("/echo", content=f"number {i}") for i in range(200)))
    assert [answer.text.rpartition("\r\n\r\n")[2] for answer in answers] == [f"number {i}" for i in range(200)]


async def test_aiohttp(origin):
    gateway, _ = origin

    async def pieces():
        for _ in range(100):
            yield b"a" * 1000

    async with aiohttp.ClientSession(gateway.url()) as session:
        connections = set()
        for _ in range(20):
            async with session.get("/") as response:
                connections.add(response.headers["X-Connection"])
        assert len(connections) == 1
        for path, size in ((f"/bytes/{LARGE}", LARGE), ("/chunked/100000", 100000), ("/close-delimited/5000", 5000)):
            async with session.get(path) as response:
                assert await response.read() == filler(size)
        async with session.post("/sink", data=pieces()) as response:
            assert await response.text() == "100000"
        async with session.post("/sink", data=io.BytesIO(filler(LARGE)), expect100=True) as response:
            assert await response.text() == str(LARGE)
        async with session.head("/bytes/77") as response:
            assert response.headers["Content-Length"] == "77"
        for path in ("/truncated/1000", "/close"):
            with contextlib.suppress(aiohttp.ClientPayloadError):
                async with session.get(path) as response:
                    body = await response.read()
                    assert (path, response.status) == ("/close", 502), body
        async with session.get("/") as response:
            assert await response.text() == "app1"


@needs("curl")
def test_curl(origin, tmp_path):
    gateway, _ = origin
    body = tmp_path / "body"
    body.write_bytes(filler(LARGE))

    def curl(*arguments, path="/"):
        return run("curl", "--silent", "--show-error", "--max-time", "20", *arguments, gateway.url(path))

    for version in ("--http1.0", "--http1.1"):
        assert curl(version) == "app1"
        assert curl(version, path="/chunked/5000") == filler(5000).decode()
        assert curl(version, "--data-binary", f"@{body}", path="/sink") == str(LARGE)
        head = curl(version, "--head", path="/bytes/55")
        assert head.startswith("HTTP/1.1 200")
        assert "\nContent-Length: 55\n" in head
    assert curl("--header", "Expect: 100-continue", "--data-binary", f"@{body}", path="/sink") == str(LARGE)
    chunked = ("--header", "Transfer-Encoding: chunked")
    assert curl(*chunked, "--data-binary", f"@{body}", path="/sink") == str(LARGE)
    assert "Transfer-Encoding: chunked\n" in curl(*chunked, "--data", "abc", path="/echo")
    assert curl("--form", f"file=@{body}", path="/echo").startswith("POST /echo HTTP/1.1\n")
    # Six transfers in one run use one connection.
    urls = [gateway.url("/bytes/10") for _ in range(5)]
    count = curl("--write-out", "\n%{num_connects}\n", *urls).count("\n1\n")
    assert count == 1


# ----------------------------------------------------------------------------------------------------------- as servers


@needs("nginx")
def test_nginx(nginx):
    gateway, server = nginx
    with httpx.Client(base_url=gateway.url(), headers={"Accept-Encoding": "identity"}) as client:
        for _ in range(20):
            assert client.get("/small.txt").text == "small"
        large = client.get("/large.bin")
        assert hashlib.sha256(large.content).digest() == hashlib.sha256(filler(LARGE)).digest()
        part = client.get("/large.bin", headers={"Range": "bytes=1000-1999"})
        assert (part.status_code, part.content) == (206, filler(LARGE)[1000:2000])
        assert part.headers["Content-Range"] == f"bytes 1000-1999/{LARGE}"
        parts = client.get("/large.bin", headers={"Range": "bytes=0-9, 100-109"})
        assert (parts.status_code, parts.headers["Content-Type"][:21]) == (206, "multipart/byteranges;")
        beyond = client.get("/large.bin", headers={"Range": f"bytes={LARGE}-"})
        assert beyond.status_code == 416
        tag = client.get("/small.txt").headers["ETag"]
        same = client.get("/small.txt", headers={"If-None-Match": tag})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
        assert client.get("/small.txt", headers={"If-Match": '"other"'}).status_code == 412
        head = client.head("/large.bin")
        assert (head.headers["Content-Length"], head.content) == (str(LARGE), b"")
        assert client.put("/new.bin", content=filler(LARGE)).status_code == 201
        assert client.put("/chunked.bin", content=iter([b"a" * 5000] * 50)).status_code == 201
        assert client.get("/chunked.bin").content == b"a" * 250_000
        assert client.delete("/new.bin").status_code == 204
        assert client.get("/new.bin").status_code == 404
        assert client.get("/gone").status_code == 410
        assert client.get("/moved").status_code == 301
        assert client.post("/small.txt", content=b"x").status_code == 405
        assert client.get("/small.txt").text == "small"
    # One connection did it all, but nginx closes one after its 412, and its 405 may come before the body of the POST
    # has been sent: two more at most.
    assert len({number for number, *_ in server.requests()}) <= 3
    assert (server.files / "chunked.bin").stat().st_size == 250_000


@needs("nginx")
def test_what_nginx_compresses_passes_as_it_is(nginx):
    gateway, _ = nginx
    with RawClient(gateway.port) as client:
        packed = client.get("/text.txt", "Accept-Encoding: gzip")
        assert packed.header("Content-Encoding") == "gzip"
        assert packed.header("Vary") is None
        assert gzip.decompress(packed.body).decode() == TEXT
        plain = client.get("/text.txt")
        assert (plain.header("Content-Encoding"), plain.body.decode()) == (None, TEXT)
        assert client.get("/small.txt").body == b"small"


@needs("node")
def test_node(node):
    gateway, module = node
    with httpx.Client(base_url=gateway.url()) as client:
        answers = [client.get("/hello") for _ in range(20)]
        assert {answer.text for answer in answers} == {"hello"}
        assert len({answer.headers["X-Connection"] for answer in answers}) == 1
        chunked = client.get("/chunked")
        assert chunked.text == "".join(str(i) * 100 for i in range(50))
        assert chunked.headers["Transfer-Encoding"] == "chunked"
        head = client.head("/chunked")
        assert (head.status_code, head.content) == (200, b"")
        assert client.get("/gzip").text == "zip " * 1000
        assert client.get("/none").status_code == 204
        assert client.get("/same").text == "same"
        assert client.get("/same", headers={"If-None-Match": '"1"'}).status_code == 304
        assert client.get("/hints").text == "hinted"
        assert client.get("/cookies").headers.get_list("Set-Cookie") == ["a=1", "b=2"]
        assert (client.get("/error").status_code, client.get("/nothing").status_code) == (500, 404)
        sized = client.post("/sink", content=filler(LARGE)).json()
        assert (sized["size"], sized["framing"]["content-length"]) == (LARGE, str(LARGE))
        streamed = client.post("/sink", content=iter([b"a" * 5000] * 50)).json()
        coding = "chunked" if module == "http" else None
        assert (streamed["size"], streamed["framing"].get("transfer-encoding")) == (250_000, coding)
        assert client.post("/mirror", content=filler(LARGE)).content == filler(LARGE)
        with pytest.raises(httpx.TransportError):
            client.get("/destroy")
        assert client.get("/hello").text == "hello"


@needs("node")
def test_trailers_of_node(node):
    gateway, module = node
    with RawClient(gateway.port) as client:
        client.send(b"GET /trailers HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
        phrase, name = (b"OK", b"X-Sum") if module == "http" else (b"", b"x-sum")  # HTTP/2 has no phrases
        assert client.read(until=b"\r\n\r\n").startswith(b"HTTP/1.1 200 %s\r\n" % phrase)
        assert client.read(until=b"\r\n\r\n") == b"4\r\nbody\r\n0\r\n%s: 4\r\n\r\n" % name
        assert client.get("/hello").body == b"hello"


# ----------------------------------------------------------------------------------------------------------- WebSocket


async def mirror(connection):
    """Send every message back until the other side closes."""
    async for message in connection:
        if message == "close":
            await connection.close(4001, "as you wish")
        else:
            await connection.send(message)


@contextlib.asynccontextmanager
async def before_mirror(start):
    async with serve(mirror, "127.0.0.1", 0, max_size=1 << 24) as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        description = site([], workers=1)
        description["backends"]["app"]["servers"] = [{"name": "ws", "address": address}]
        yield start(description)


@pytest.fixture
async def websocket(lend_gateway):
    async with before_mirror(lend_gateway) as gateway:
        yield gateway


@pytest.fixture
async def fresh_websocket(start_gateway):
    async with before_mirror(start_gateway) as gateway:
        yield gateway


async def test_websocket_messages_of_all_sizes(websocket):
    async with connect(websocket.url(scheme="ws"), max_size=1 << 24) as client:
        for message in ("hello", "", "ä" * 70_000, b"\x00\xff" * 100, filler(4_000_000)):
            await client.send(message)
            assert await client.recv() == message
        await (await client.ping())
        await client.send([b"in ", b"three ", b"pieces"])
        assert await client.recv() == b"in three pieces"


async def test_websocket_closes_from_either_side(websocket):
    async with connect(websocket.url(scheme="ws")) as client:
        await client.close(1000, "enough")
        assert (client.close_code, client.close_reason) == (1000, "enough")
    async with connect(websocket.url(scheme="ws")) as client:
        await client.send("close")
        with pytest.raises(websockets.ConnectionClosedError):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4001, "as you wish")


async def test_many_websockets_at_once(websocket):
    async def talk(number):
        async with connect(websocket.url(scheme="ws")) as client:
            for i in range(20):
                await client.send(f"{number}:{i}")
                assert await client.recv() == f"{number}:{i}"

    await asyncio.gather(*(talk(number) for number in range(50)))


async def test_websocket_outlives_reload_and_upgrade(fresh_websocket):
    async with connect(fresh_websocket.url(scheme="ws")) as client:
        await client.send("before")
        assert await client.recv() == "before"
        await asyncio.to_thread(fresh_websocket.reload, fresh_websocket.site, "reloaded: ")
        await client.send("after the reload")
        assert await client.recv() == "after the reload"
        await asyncio.to_thread(fresh_websocket.upgrade)
        await asyncio.sleep(1.5)  # longer than a draining worker's notice to silent clients
        await client.send("after the upgrade")
        assert await client.recv() == "after the upgrade"
        assert fresh_websocket.process.poll() is None
    assert await asyncio.to_thread(fresh_websocket.wait) == 0


async def test_aiohttp_websocket(websocket):
    async with aiohttp.ClientSession() as session, session.ws_connect(websocket.url()) as client:
        await client.send_json({"a": [1, 2, 3]})
        assert json.loads(await client.receive_str()) == {"a": [1, 2, 3]}
