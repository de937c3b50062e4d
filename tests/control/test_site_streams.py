"""Reports of sites over TCP: who may hear them, and what ends a connection."""

import asyncio
import socket
from itertools import count

from gateway.control.site_streams import SiteStreams
from loadagent.config import Endpoint
from loadagent.report import MAX_BYTES
from tests.support.waiting import soon


class Side:
    """One gateway: what it has heard; reports that begin with "good" are signed."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.streams = SiteStreams(self.hear)

    def hear(self, report: bytes, source: str) -> bool:
        self.heard.append(report)
        assert source == "127.0.0.1"
        return report.startswith(b"good")

    async def listen(self) -> Endpoint:
        sock = socket.create_server(("127.0.0.1", 0))
        await self.streams.listen(sock)
        return Endpoint(*sock.getsockname())


async def test_both_ends_of_a_connection_hear_each_other() -> None:
    one, other = Side(), Side()
    endpoint = await other.listen()
    one.streams.connect([endpoint])

    numbers = count()

    def exchanged() -> bool:
        one.streams.send(b"good one %d" % next(numbers))
        other.streams.send(b"good other %d" % next(numbers))
        return bool(other.heard and one.heard)

    await soon(exchanged, "both to hear")
    one.streams.connect([])
    await asyncio.sleep(0.05)
    one.streams.send(b"good late")
    await asyncio.sleep(0.05)
    assert b"good late" not in other.heard, "the connection is closed"
    await one.streams.close()
    await other.streams.close()


async def test_a_recorded_report_that_is_sent_again_ends_the_connection() -> None:
    side = Side()
    endpoint = await side.listen()
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    recorded = b"good report"
    writer.write(2 * (len(recorded).to_bytes(2) + recorded))
    assert await asyncio.wait_for(_all(reader), 5.0) == b""
    writer.close()
    await side.streams.close()
    assert side.heard == [recorded]


async def test_a_client_without_the_key_hears_nothing_and_is_disconnected() -> None:
    side = Side()
    endpoint = await side.listen()
    for sent in (b"\x00\x03bad", b"\x00\x00", (MAX_BYTES + 1).to_bytes(2) + bytes(MAX_BYTES + 1)):
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        side.streams.send(b"good secret")
        writer.write(sent)
        assert await asyncio.wait_for(_all(reader), 5.0) == b""
        writer.close()
    await side.streams.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
