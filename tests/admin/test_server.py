"""The listener for operators, in one event loop with its clients."""

import asyncio
import itertools
import json
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest
from aiohttp import web

from gateway.admin import server as module
from gateway.admin.access import Access, Caller
from gateway.admin.server import MAX_BODY, MAX_CLIENTS, MAX_STREAMS, AdminServer, Endpoint
from gateway.admin.tls import Peer, context
from tests.support.certificates import Authority
from tests.support.waiting import soon

TOKEN = b"a token of sixteen bytes"


EVERYONE = Access("read")
GUARDED = Access(None, ((Caller("prometheus", "read"), TOKEN), (Caller("alice", "operate"), b"the token of alice")))


def broken():
    raise RuntimeError("a bug")


def page(make):
    async def answer(_):
        return make()

    return answer


async def echo(asked):
    return 200, "application/json", json.dumps({"who": asked.caller.name, **asked.body})


async def ticks(_):
    for number in itertools.count():
        yield str(number)
        await asyncio.sleep(0.01)


PAGES = {
    "/metrics": {"GET": Endpoint(role="read", answer=page(lambda: (200, "text/plain", "figures\n")))},
    "/healthz": {"GET": Endpoint(role=None, answer=page(lambda: (200, "text/plain", "healthy\n")))},
    "/broken": {"GET": Endpoint(role="read", answer=page(broken))},
    "/api/drain": {"POST": Endpoint(role="operate", answer=echo)},
    "/api/events": {"GET": Endpoint(role="read", events=ticks)},
}


@pytest.fixture
async def server() -> AsyncIterator[AdminServer]:
    sock = socket.create_server(("127.0.0.1", 0))
    server = AdminServer(sock, PAGES, EVERYONE)
    server.port = sock.getsockname()[1]  # type: ignore[attr-defined]
    yield server
    if sock.fileno() >= 0:
        server.close()


@asynccontextmanager
async def connection(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def ask(server, path="/metrics", *fields, method="GET", host="localhost", version="1.1"):
    """Status, header fields, body."""
    lines = [f"{method} {path} HTTP/{version}", *([f"Host: {host}"] if host is not None else []), *fields]
    async with connection(server) as (reader, writer):
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


async def test_pages(server):
    status, fields, body = await ask(server)
    assert (status, body) == (200, b"figures\n")
    assert fields["Cache-Control"] == "no-store"
    assert fields["X-Content-Type-Options"] == "nosniff"
    assert fields["Connection"] == "close"
    assert "aiohttp" not in fields["Server"]
    assert (await ask(server, method="HEAD"))[2] == b""
    for path in ("/", "/api/v1/status", "/metrics/", "/..%2fmetrics"):
        assert (await ask(server, path))[0] == 404
    assert (await ask(server, "/metrics?x=1"))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_a_page_is_only_read(server, method):
    for path in ("/metrics", "/healthz"):
        status, fields, _ = await ask(server, path, method=method)
        assert (status, fields["Allow"]) == (405, "GET, HEAD")


async def test_names_of_other_machines_are_refused_where_there_is_no_token(server):
    for path in ("/metrics", "/healthz"):
        assert (await ask(server, path, host="evil.example"))[0] == 403
        assert (await ask(server, path, host="127.0.0.1:8900"))[0] == 200
    assert (await ask(server, host=None, version="1.0"))[0] == 200
    server.access = GUARDED
    assert (await ask(server, "/healthz", host="gw1.example"))[0] == 200


async def test_a_token(server):
    server.access = GUARDED
    for fields in (
        (),
        ("Authorization: Bearer",),
        ("Authorization: Bearer another one, as long as it",),
        (f"Authorization: Basic {TOKEN.decode()}",),
        (f"Authorization: {TOKEN.decode()}",),
        ("Authorization: Bearer \xff\xfe",),
    ):
        status, answer, body = await ask(server, "/metrics", *fields)
        assert (status, answer["WWW-Authenticate"]) == (401, 'Bearer realm="gateway"')
        assert b"figures" not in body
    for scheme in ("Bearer", "bearer"):
        assert (await ask(server, "/metrics", f"Authorization: {scheme} {TOKEN.decode()}"))[0] == 200
    assert (await ask(server, "/healthz"))[0] == 200
    assert (await ask(server, "/secret"))[0] == 401, "who may not see anything is not told what there is"


JSON = "Content-Type: application/json"
ALICE = "Authorization: Bearer the token of alice"


async def change(server, *fields, body=b"{}", length=None, **options):
    """Status and JSON of a POST."""
    size = f"Content-Length: {len(body) if length is None else length}"
    lines = ["POST /api/drain HTTP/1.1", f"Host: {options.get('host', 'localhost')}", size, *fields, "", ""]
    async with connection(server) as (reader, writer):
        writer.write("\r\n".join(lines).encode() + body)
        head, _, said = (await reader.read()).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(said)


async def test_a_change_needs_the_role(server):
    assert (await change(server, JSON))[0] == 401, "a request without a token may read only"
    server.access = GUARDED
    assert (await change(server, JSON))[0] == 401
    assert (await change(server, JSON, "Authorization: Bearer another"))[0] == 401
    refused = await change(server, JSON, f"Authorization: Bearer {TOKEN.decode()}")
    assert refused == (403, {"error": "this needs the role operate; the operator prometheus has read"})
    assert await change(server, JSON, ALICE, body=b'{"target": "app"}') == (200, {"who": "alice", "target": "app"})
    server.access = Access("operate")
    assert await change(server, JSON) == (200, {"who": "anyone"})


@pytest.mark.parametrize(
    "fields",
    [
        (JSON, "Origin: http://evil.example"),
        (JSON, "Origin: null"),
        (JSON, "Origin: http://localhost:1"),
        (JSON, "Sec-Fetch-Site: cross-site"),
        (JSON, "Sec-Fetch-Site: same-site"),
    ],
)
async def test_a_web_page_of_another_origin_changes_nothing(server, fields):
    server.access = GUARDED
    assert (await change(server, *fields, ALICE))[0] == 403
    same = (JSON, "Origin: http://localhost", "Sec-Fetch-Site: same-origin")
    assert (await change(server, *same, ALICE))[0] == 200


async def test_a_change_is_sent_as_json(server):
    server.access = GUARDED
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"):
        assert (await change(server, f"Content-Type: {kind}", ALICE))[0] == 415
    assert (await change(server, ALICE))[0] == 415
    for body in (b"{", b"[1]", b"\xff", b"[" * 100_000):
        assert (await change(server, JSON, ALICE, body=body))[0] == 400
    assert (await change(server, f"{JSON}; charset=utf-8", ALICE, body=b""))[0] == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity"])
async def test_a_body_with_a_content_encoding_is_refused(server, caplog, encoding):
    server.access = GUARDED
    refused = (415, {"error": "a body without Content-Encoding"})
    assert await change(server, JSON, ALICE, f"Content-Encoding: {encoding}", body=b"junk") == refused
    assert not caplog.records


async def test_a_body_with_broken_framing_is_the_mistake_of_the_client(server, caplog):
    server.access = GUARDED
    head = f"POST /api/drain HTTP/1.1\r\nHost: a\r\n{JSON}\r\n{ALICE}\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with connection(server) as (reader, writer):
        writer.write(head.encode())
        await soon(lambda: server._protocols.requests_count, "the request to begin")
        (protocol,) = server._protocols.connections
        # As a parser of aiohttp says it; not every one of them does.
        protocol._current_request.content.set_exception(web.RequestPayloadError("secret"))
        said = await reader.read()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"secret" not in said
    assert not caplog.records


async def test_a_body_of_bounded_size(server):
    server.access = GUARDED
    status, said = await change(server, JSON, ALICE, body=b" " * (MAX_BODY + 1))
    assert (status, said) == (413, {"error": f"at most {MAX_BODY} bytes"})


async def test_a_body_that_does_not_come_ends_the_connection(server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    server.access = GUARDED
    head = f"POST /api/drain HTTP/1.1\r\nHost: a\r\n{JSON}\r\n{ALICE}\r\nContent-Length: 9\r\n\r\n{{"
    async with connection(server) as (reader, writer):
        writer.write(head.encode())
        assert await asyncio.wait_for(reader.read(), 30) == b""


@pytest.mark.parametrize("framing", ["Content-Length: 19", "Transfer-Encoding: chunked"])
async def test_a_change_that_is_cut_at_any_byte_is_not_made(server, monkeypatch, caplog, framing):
    made = []

    async def answer(asked):
        made.append(asked.body)
        return 200, "text/plain", "done"

    monkeypatch.setitem(PAGES, "/api/drain", {"POST": Endpoint(role="operate", answer=answer)})
    server.access = GUARDED
    body = '{"target": "app/a"}'
    if "chunked" in framing:
        body = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    request = f"POST /api/drain HTTP/1.1\r\nHost: a\r\n{JSON}\r\n{ALICE}\r\n{framing}\r\n\r\n{body}".encode()
    for end in range(len(request)):
        async with connection(server) as (reader, writer):
            writer.write(request[:end])
            writer.write_eof()
            said = await asyncio.wait_for(reader.read(), 30)
            assert not said or said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), (end, said)
    assert made == []
    async with connection(server) as (reader, writer):
        writer.write(request)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    assert made == [{"target": "app/a"}]
    assert not caplog.records


async def test_events_come_until_the_client_leaves_and_to_a_bounded_number(server):
    head = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with AsyncExitStack() as stack:
        for _ in range(MAX_STREAMS):
            reader, writer = await stack.enter_async_context(connection(server))
            writer.write(head)
            assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readuntil(b"data: 0\n\n")
        status, _, body = await ask(server, "/api/events")
        assert (status, json.loads(body)) == (503, {"error": f"{MAX_STREAMS} clients get events already"})
    await soon(lambda: not server._streams, "the streams to end")
    server.access = GUARDED
    assert (await ask(server, "/api/events"))[0] == 401


async def test_events_outlast_the_time_of_other_connections(server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    async with connection(server) as (reader, writer):
        writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"data: 50\n\n"), 30)


async def test_an_answer_that_takes_long_has_the_time_of_its_endpoint(server, monkeypatch):
    async def slow(_):
        await asyncio.sleep(0.4)
        return 200, "text/plain", "done"

    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    monkeypatch.setitem(PAGES, "/slow", {"GET": Endpoint(role="read", answer=slow, seconds=30.0)})
    assert (await ask(server, "/slow"))[2] == b"done"


async def test_a_client_that_does_not_take_events_is_disconnected(server, monkeypatch):
    async def large(_):
        while True:
            yield "x" * 10_000_000

    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    monkeypatch.setitem(PAGES, "/api/events", {"GET": Endpoint(role="read", events=large)})
    async with connection(server) as (reader, writer):
        writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await soon(lambda: server._streams, "the stream to begin")
        await soon(lambda: not server._streams, "the stream to break off", 30.0)
        assert not reader.at_eof()


async def test_a_bug_is_not_shown(server, caplog):
    status, _, body = await ask(server, "/broken")
    assert status == 500
    assert b"a bug" not in body
    assert "/broken cannot be served" in caplog.text


@pytest.mark.parametrize(
    "head", [b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 100, b"GET /" + b"a" * 9000, b"\0\r\n\r\n"]
)
async def test_heads_that_are_too_large_or_none(server, head, caplog):
    async with connection(server) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert re.match(rb"HTTP/1\.[01] (400|431) ", await reader.read())
    assert not caplog.records


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /broken HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: evil\r\n\r\n",
        b"secret\0\r\n\r\n",
        b"GET /secret HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret\r\n\r\n",
        b"GET /" + b"secret" * 1000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"secret: b\r\n" * 100 + b"\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: secret\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_no_answer_names_versions_or_quotes_the_request(server, request_):
    async with connection(server) as (reader, writer):
        writer.write(request_)
        said = await reader.read()
    assert re.match(rb"HTTP/1\.[01] (200|400|403|404|405|431|500) ", said)
    assert b"Server: gateway\r\n" in said
    for word in (b"aiohttp", b"python", b"secret", b"traceback", b"<"):
        assert word not in said.lower()


async def test_a_slow_client_is_disconnected(server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    async with connection(server) as (reader, writer):
        for piece in (b"GET /metrics HTTP/1.1\r\n", b"Host: localhost\r\n"):
            writer.write(piece)
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_a_client_that_does_not_read_is_disconnected(server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    large = page(lambda: (200, "text/plain", "x" * 50_000_000))
    monkeypatch.setitem(PAGES, "/metrics", {"GET": Endpoint(role="read", answer=large)})
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)  # noqa: FBT003
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        await loop.sock_sendall(client, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answered = server._answered
        await soon(lambda: answered, "the answer to begin")
        await soon(lambda: all(transport.is_closing() for transport in answered), "the answer to break off", 30.0)
        await soon(lambda: not server._protocols.connections, "the connection to be forgotten")


async def test_many_slow_clients_do_not_keep_out_others(server):
    async with AsyncExitStack() as stack:
        for _ in range(2 * MAX_CLIENTS):
            await stack.enter_async_context(connection(server))
        await soon(lambda: not server._joining, "all to be accepted")
        assert len(server._waiting) <= MAX_CLIENTS
        assert (await ask(server))[0] == 200


async def test_requests_with_unfinished_bodies_do_not_keep_out_others(server, caplog):
    server.access = GUARDED
    head = f"POST /api/drain HTTP/1.1\r\nHost: a\r\n{JSON}\r\n{ALICE}\r\nContent-Length: 9\r\n\r\n{{"
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(MAX_CLIENTS):
            reader, writer = await stack.enter_async_context(connection(server))
            writer.write(head.encode())
            clients.append((reader, writer))
        await soon(lambda: server._protocols.requests_count == MAX_CLIENTS, "all requests to begin")
        assert (await ask(server, "/healthz"))[0] == 200
        with suppress(ConnectionResetError):
            assert await clients[0][0].read() == b"", "the oldest one is closed"
        reader, writer = clients[-1]
        writer.write(b"       }")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 "), "the newest one is answered when its body comes"
    assert not caplog.records


SECURE = Access(
    None, ((Caller("prometheus", "read"), TOKEN),), ((Caller("deploy", "operate"), "deploy.example"),), b"", encrypted=True
)  # fmt: skip


def shown(authority, name, cas):
    pair = authority.issue(name)
    return context(pair.cert.read_bytes(), pair.key.read_bytes(), cas)


async def ask_securely(server, client, *fields, path="/metrics"):
    """The status; 0: no answer."""
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=client, server_hostname="gw.example"
        )
    except OSError:
        return 0
    lines = (f"GET {path} HTTP/1.1", "Host: gw.example", *fields, "")
    writer.write("".join(f"{line}\r\n" for line in lines).encode())
    with suppress(OSError):
        said = await reader.read()
        writer.close()
        return int(said.split()[1]) if said else 0
    return 0


async def test_a_client_certificate_is_as_good_as_a_token(server, authority, tmp_path):
    cas = authority.ca.read_bytes()
    server.access, server.tls = replace(SECURE, cas=cas), shown(authority, "gw.example", cas)
    nameless, known, stranger = (authority.client_context() for _ in range(3))
    for client, name in ((known, "deploy.example"), (stranger, "another.example")):
        pair = authority.issue(name)
        client.load_cert_chain(pair.cert, pair.key)
    assert await ask_securely(server, known) == 200
    assert await ask_securely(server, known, path="/api/drain") == 405
    assert await ask_securely(server, known, "Authorization: Bearer wrong") == 401
    assert await ask_securely(server, stranger) == await ask_securely(server, nameless) == 401
    assert await ask_securely(server, nameless, f"Authorization: Bearer {TOKEN.decode()}") == 200
    assert await ask_securely(server, nameless, path="/healthz") == 200
    # One that the authority of the gateway has not signed ends the handshake.
    other = Authority(tmp_path)
    pair = other.issue("deploy.example")
    known.load_cert_chain(pair.cert, pair.key)
    assert await ask_securely(server, known) == 0


async def test_what_a_certificate_may_do_ends_with_its_authority_and_with_tls():
    access = replace(SECURE, cas=b"one")
    deploy, peer = Caller("deploy", "operate"), Peer(encrypted=True, names=frozenset({"deploy.example"}), cas=b"one")
    assert access.caller(None, peer) == deploy
    assert access.knows(deploy, "", peer)
    assert not replace(access, cas=b"another").knows(deploy, "", peer)
    assert not replace(access, certificates=()).knows(deploy, "", peer)
    assert not access.knows(Caller("prometheus", "read"), TOKEN.decode(), Peer())  # it came before there was TLS


async def test_the_certificate_is_exchanged_without_a_restart(server, authority):
    server.access, server.tls = SECURE, shown(authority, "old.example", b"")
    assert server.tls.minimum_version == ssl.TLSVersion.TLSv1_2
    client = authority.client_context()
    assert await ask_securely(server, client, path="/healthz") == 0
    server.tls = shown(authority, "gw.example", b"")
    assert await ask_securely(server, client, path="/healthz") == 200


async def test_handshakes_that_do_not_end_do_not_keep_out_others(server, authority, caplog):
    caplog.set_level("INFO")
    server.access, server.tls = SECURE, shown(authority, "gw.example", b"")
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(connection(server)) for _ in range(MAX_CLIENTS + 1)]
        for _ in range(2):
            assert await ask_securely(server, authority.client_context(), path="/healthz") == 200
        assert await asyncio.wait_for(silent[0][0].read(), 30) == b""
        silent[-1][1].write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        await soon(lambda: "TLS handshake of an operator failed: http request" in caplog.text, "the line in the log")
    assert b"HTTP/1.1" not in await silent[-1][0].read()


async def test_nothing_is_left_after_close(server):
    async with connection(server):
        await soon(lambda: server._waiting, "the connection")
        server.close()
        with pytest.raises(ConnectionError):
            await ask(server)
        await soon(lambda: not server._protocols.connections, "the connection to end")


async def test_the_kernel_says_who_asks_at_a_unix_socket(tmp_path):
    me = os.geteuid()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "api.sock"))
        sock.listen()
        server = AdminServer(sock, PAGES, GUARDED.here({me: "root"}))

        async def drain(*fields):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "api.sock")
            given = "".join(f"{field}\r\n" for field in ("Host: gateway", "Content-Type: application/json", *fields))
            writer.write(f"POST /api/drain HTTP/1.1\r\nContent-Length: 2\r\n{given}\r\n{{}}".encode())
            said = await reader.read()
            writer.close()
            return int(said.split()[1]), said

        status, said = await drain()
        assert (status, b'"who": "root"' in said) == (200, True)
        status, said = await drain("Authorization: Bearer the token of alice")
        assert (status, b'"who": "alice"' in said) == (200, True)
        assert (await drain(f"Authorization: Bearer {TOKEN.decode()}"))[0] == 403
        assert (await drain("Authorization: Bearer of a stranger"))[0] == 401
        server.access = GUARDED.here({me + 1: "another"})
        assert (await drain())[0] == 401
        server.close()
