"""Steady load from a thread, so that a test can kill and reload meanwhile, with every failure on record."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.waiting import eventually

LIMIT = 15.0  # seconds for one request


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that got no proper answer: when (time.monotonic), and why."""

    at: float
    why: str


class Load:
    """`clients` keep-alive connections to 127.0.0.1:`port`, each asking for `path` again and again.

    A `port` that is text is the path of a Unix socket.

    Good is a complete answer whose status is below 500. Everything else is a failure, also a connection that
    closes without having said so: there is always a request in flight on it.
    """

    def __init__(self, port: int | str, path: str = "/", clients: int = 16, fields: tuple[str, ...] = ()) -> None:
        self._port = port
        self._request = "\r\n".join((f"GET {path} HTTP/1.1", "Host: localhost", *fields, "", "")).encode()
        self._clients = clients
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._stop = threading.Event()
        self.good = 0
        self.statuses: Counter[int] = Counter()
        self.servers: Counter[str] = Counter()  # good answers by X-Server
        self.failures: list[Failure] = []

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._clients):
                group.create_task(self._client())

    async def _client(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stop.is_set():
            try:
                async with asyncio.timeout(LIMIT):
                    if connection is None:
                        connection = await self._connect()
                    keep = await self._ask(*connection)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.failures.append(Failure(time.monotonic(), repr(error)))
                await asyncio.sleep(0.01)
                keep = False
            if not keep and connection is not None:
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._port, str):
            return await asyncio.open_unix_connection(self._port)
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        status = int(lines[0].split(" ")[1])
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if "chunked" in fields.get("transfer-encoding", ""):
            await self._skip_chunks(reader)
        else:
            await reader.readexactly(int(fields.get("content-length", "0")))
        self.statuses[status] += 1
        if status < 500:
            self.good += 1
            self.servers[fields.get("x-server", "")] += 1
        else:
            self.failures.append(Failure(time.monotonic(), f"status {status}"))
        return fields.get("connection", "").lower() != "close"

    async def _skip_chunks(self, reader: asyncio.StreamReader) -> None:
        size = -1
        while size:
            size = int(await reader.readuntil(b"\r\n"), 16)
            await reader.readexactly(size + 2)

    def wait_for(self, good: int, seconds: float = 20.0) -> None:
        """Return when `good` more requests have been answered well. Raises AssertionError."""
        goal = self.good + good
        eventually(lambda: self.good >= goal, f"{good} more good answers ({self.failures[-3:]})", seconds)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(LIMIT + 5.0)
        assert not self._thread.is_alive()
