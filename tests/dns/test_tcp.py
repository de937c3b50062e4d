"""DNS over TCP: pipelining, limits, and what a connection may hold."""

import asyncio
import socket
from collections.abc import AsyncIterator

import dns.message
import pytest
import pytest_asyncio

from gateway.dns.tcp import Limits, Listener
from tests.dns.zones import query, responder
from tests.support.waiting import soon


class Server:
    """A listener at a port of its own."""

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.settimeout(0)
        self.listener = Listener(responder(BIG), limits)
        self.listener.add(self.sock)

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.sock.getsockname())

    def close(self) -> None:
        self.listener.close()
        self.sock.close()


BIG = {"big.example": {"ns": "ns.example", "records": [f'@ TXT "{i:0200}"' for i in range(100)]}}


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    found = Server(Limits(connections=10, per_source=3, idle=0.5))
    yield found
    found.close()


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2) + message for message in messages)


async def receive(reader: asyncio.StreamReader) -> dns.message.Message:
    length = int.from_bytes(await reader.readexactly(2))
    return dns.message.from_wire(await reader.readexactly(length))


async def test_queries_are_answered_in_order_however_they_are_cut(server):
    reader, writer = await server.client()
    queries = [query("big.example", kind) for kind in ("SOA", "NS", "A", "TXT", "ANY")]
    data = framed(*(one.to_wire() for one in queries))
    for at in range(len(data)):
        writer.write(data[at : at + 1])
        await writer.drain()
    for asked in queries:
        assert asked.is_response(await receive(reader))
    writer.write(data)
    for asked in queries:
        assert asked.is_response(await receive(reader))
    writer.close()
    await soon(lambda: server.listener.connections == 0, "the connection to end")


@pytest.mark.parametrize("data", [b"\0\0", b"\xff\xff", framed(b"short"), framed(b"\0\1\x80" + bytes(9))])
async def test_what_is_no_query_ends_the_connection(server, data):
    reader, writer = await server.client()
    writer.write(data)
    assert await reader.read() == b""
    assert server.listener.counts["malformed"] == 1
    writer.close()


async def test_an_idle_connection_ends_and_a_slow_query_is_idle(server):
    reader, writer = await server.client()
    whole = framed(query("big.example", "SOA").to_wire())
    writer.write(whole)
    await receive(reader)
    for byte in whole[:-1]:
        if reader.at_eof():
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)
    assert await reader.read() == b"", "though a byte had come in the meantime"
    assert server.listener.counts["idle"] == 1
    writer.close()


async def test_connections_are_limited_for_each_source(server):
    clients = [await server.client() for _ in range(3)]
    await soon(lambda: server.listener.connections == 3, "three to be accepted")
    reader, writer = await server.client()
    assert await reader.read() == b""
    assert server.listener.counts["refused"] == 1
    for _, one in [*clients, (reader, writer)]:
        one.close()
    await soon(lambda: server.listener.connections == 0, "all to end")
    reader, writer = await server.client()
    writer.write(framed(query("big.example", "SOA").to_wire()))
    assert (await receive(reader)).answer
    writer.close()


async def test_a_client_that_takes_no_answers_is_read_no_further(server):
    with socket.create_connection(server.sock.getsockname()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0)
        many = framed(query("big.example", "TXT").to_wire()) * 20_000  # 400 MB of answers
        asking = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client, many))
        await soon(lambda: server.listener.counts["idle"] == 1, "the connection to end")
        asking.cancel()
        await asyncio.wait([asking])
        assert 0 < server.listener._responder.counts()["tcp"] < 2000
    await soon(lambda: server.listener.connections == 0, "the connection to be forgotten")
