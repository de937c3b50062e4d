"""Reports of sites over TCP: who may hear them, and what ends a connection."""

import asyncio
import socket
from functools import partial
from itertools import count

from gateway.control.site_streams import MOST_OF_ONE, SiteStreams
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
        assert source in {"127.0.0.1", "127.0.0.2"}
        return report.startswith(b"good")

    def has_heard(self, reports: list[bytes]) -> bool:
        return self.heard == reports

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
        one.streams.send([b"good one %d" % next(numbers)])
        other.streams.send([b"good other %d" % next(numbers)])
        return bool(other.heard and one.heard)

    await soon(exchanged, "both to hear")
    one.streams.connect([])
    await asyncio.sleep(0.05)
    one.streams.send([b"good late"])
    await asyncio.sleep(0.05)
    assert b"good late" not in other.heard, "the connection is closed"
    await one.streams.close()
    await other.streams.close()


async def test_what_was_sent_last_is_heard_as_soon_as_a_connection_stands() -> None:
    one, other = Side(), Side()
    endpoint = await other.listen()
    one.streams.send([b"good one", b"good one, more"])
    other.streams.send([b"good other of before"])
    other.streams.send([b"good other"])
    one.streams.connect([endpoint])
    await soon(partial(other.has_heard, [b"good one", b"good one, more"]), "the one that listens to hear")
    await soon(partial(one.has_heard, [b"good other"]), "the one that has connected to hear")
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
        side.streams.send([b"good secret"])
        writer.write(sent)
        assert await asyncio.wait_for(_all(reader), 5.0) == b""
        writer.close()
    await side.streams.close()


async def test_one_address_cannot_have_all_connections() -> None:
    side = Side()
    endpoint = await side.listen()
    mine = [await asyncio.open_connection(endpoint.host, endpoint.port) for _ in range(MOST_OF_ONE)]
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    assert await asyncio.wait_for(_all(reader), 5.0) == b"", "one too many"
    writer.close()
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, local_addr=("127.0.0.2", 0))
    writer.write(b"\x00\x04good")
    await soon(lambda: side.heard == [b"good"], "another address to be heard")
    for _, one in (*mine, (reader, writer)):
        one.close()
    await side.streams.close()


async def test_reports_that_are_cut_anywhere() -> None:
    """In two parts a report is heard whole, and without its end not at all."""
    reports = [b"good %d" % i + bytes(10) for i in range(3)]
    stream = b"".join(len(report).to_bytes(2) + report for report in reports)
    for at in range(1, len(stream)):
        side = Side()
        endpoint = await side.listen()
        _, cut = await asyncio.open_connection(endpoint.host, endpoint.port)
        cut.write(stream[:at])
        cut.write_eof()
        whole = [report for i, report in enumerate(reports) if at >= (i + 1) * len(stream) // 3]
        await soon(partial(side.has_heard, whole), f"what is whole of {at} bytes")
        _, parted = await asyncio.open_connection(endpoint.host, endpoint.port)
        side.heard.clear()
        parted.write(stream[:at])
        await asyncio.sleep(0)
        parted.write(stream[at:])
        await soon(partial(side.has_heard, reports), f"all of what is sent in two parts at {at}")
        cut.close()
        parted.close()
        await side.streams.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
