"""Reports between sites over TCP, for where UDP does not come through. Each has its length before it, two bytes.

The gateway that does not hear a site connects to it; then both send what they also send as datagrams, at once what was
sent last: a site that is heard no more would count as down before the next report. A client hears nothing before it has
sent a report that is signed.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Collection, Iterable
from typing import Final

from gateway.control.tasks import stop
from loadagent.config import Endpoint
from loadagent.report import MAX_BYTES

MOST: Final = 128
"""Connections of others at once."""
MOST_OF_ONE: Final = 16
"""Those from one address: a site may have several gateways behind one."""
IDLE: Final = 10.0
"""Seconds without a report after which a connection ends."""
AGAIN: Final = 2.0
"""Seconds from one attempt to connect to the next."""
UNSENT: Final = 16 * MAX_BYTES
"""Bytes that may wait for one that does not read."""

_log = logging.getLogger("gateway.control")


class SiteStreams:
    """Connections of this gateway and to it, in the running event loop.

    `hear` takes a report and the address of its sender, and says whether it was signed lately, with the key of the
    sites.
    """

    def __init__(self, hear: Callable[[bytes, str], bool]) -> None:
        self._hear = hear
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], str] = {}
        """By their addresses."""
        self._trusted: set[asyncio.StreamWriter] = set()
        self._last: tuple[bytes, ...] = ()
        """The reports that were sent last."""
        self._links: dict[Endpoint, asyncio.Task[None]] = {}

    async def listen(self, sock: socket.socket | None) -> None:
        """Accept connections at a listening socket, in place of the present one; None: nowhere."""
        if self._server is not None:
            self._server.close()
        self._server = await asyncio.start_server(self._accept, sock=sock) if sock is not None else None

    def connect(self, wanted: Collection[Endpoint]) -> None:
        """Have connections to these gateways, and to no others."""
        for endpoint in self._links.keys() - set(wanted):
            self._links.pop(endpoint).cancel()
        for endpoint in set(wanted) - self._links.keys():
            self._links[endpoint] = asyncio.create_task(self._follow(endpoint))

    def send(self, reports: Iterable[bytes]) -> None:
        """Send reports to all that are connected; one that does not read misses some."""
        self._last = tuple(reports)
        for writer in self._trusted:
            self._write(writer)

    async def close(self) -> None:
        """End all connections."""
        await self.listen(None)
        await stop([*self._links.values(), *self._clients])
        self._links.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        source = str((writer.get_extra_info("peername") or ("",))[0])
        of_one = sum(other == source for other in self._clients.values())
        if task is None or len(self._clients) >= MOST or of_one >= MOST_OF_ONE:
            writer.close()
            return
        self._clients[task] = source
        try:
            await self._read(reader, writer)
        finally:
            del self._clients[task]

    async def _follow(self, endpoint: Endpoint) -> None:
        """Keep a connection to a gateway."""
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(IDLE):
                    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
                _log.info("no datagrams of the site at %s: hearing it over TCP", endpoint)
                self._trust(writer)
                await self._read(reader, writer)
            await asyncio.sleep(AGAIN)

    def _trust(self, writer: asyncio.StreamWriter) -> None:
        """Send reports there from now on."""
        if writer not in self._trusted:
            self._trusted.add(writer)
            self._write(writer)

    def _write(self, writer: asyncio.StreamWriter) -> None:
        for report in self._last:
            if writer.transport.get_write_buffer_size() < UNSENT:
                writer.write(len(report).to_bytes(2) + report)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take reports until the connection ends, is idle, or sends what is none, or the same one again."""
        before = b""
        peer = writer.get_extra_info("peername") or ("",)
        try:
            while True:
                async with asyncio.timeout(IDLE):
                    length = int.from_bytes(await reader.readexactly(2))
                    if not 0 < length <= MAX_BYTES:
                        return
                    report = await reader.readexactly(length)
                # A stranger could send again what it has recorded.
                if report == before or not self._hear(report, str(peer[0])):
                    return
                before = report
                self._trust(writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            self._trusted.discard(writer)
            writer.close()
