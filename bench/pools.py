"""Real servers with queues: every pool of a workload on a port of its own, without using CPU time.

    python -m bench.pools WORKLOAD-NUMBER SECONDS PORT...

`GET /SIZE` is worked on for as long as bench/queueing.py says, once a slot is free. Writes a line when all listen; the
clock of the workload starts when a line comes on standard input.
"""

import asyncio
import sys
from collections import deque
from typing import cast

import uvloop

from bench.queueing import Workload, workloads


class Clock:
    """Seconds since the workload began; 0.0 before."""

    def __init__(self) -> None:
        self.began: float | None = None

    def now(self) -> float:
        """Tell them."""
        return 0.0 if self.began is None else asyncio.get_running_loop().time() - self.began


class Server:
    """One pool."""

    def __init__(self, workload: Workload, number: int, clock: Clock) -> None:
        self._workload = workload
        self._number = number
        self._clock = clock
        self._free = workload.slots
        self._waiting: deque[tuple[float, Connection]] = deque()

    def ask(self, size: float, connection: "Connection") -> None:
        """Process a request, or queue it."""
        self._waiting.append((size, connection))
        self._work()

    def _work(self) -> None:
        while self._free and self._waiting:
            size, connection = self._waiting.popleft()
            self._free -= 1
            takes, good = self._workload.service(self._number, self._clock.now(), size)
            asyncio.get_running_loop().call_later(takes, self._done, connection, good)

    def _done(self, connection: "Connection", good: bool) -> None:  # noqa: FBT001 - an argument of call_later
        self._free += 1
        connection.answer(good=good, server=self._number)
        self._work()


class Connection(asyncio.Protocol):
    """One connection of a proxy: one request at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Process a request head."""
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            size = float(self._head.split(b" ", 2)[1][1:])
            self._head = b""
            self._server.ask(size, self)

    def answer(self, *, good: bool, server: int) -> None:
        """Send the response, if the client is still connected."""
        if self._transport is not None and not self._transport.is_closing():
            status = b"200 OK" if good else b"500 No"
            self._transport.write(b"HTTP/1.1 %s\r\nContent-Length: 2\r\nX-Server: %d\r\n\r\nok" % (status, server))


async def main(workload: Workload, ports: list[int]) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    clock = Clock()
    for number, port in enumerate(ports):
        server = Server(workload, number, clock)
        await loop.create_server(lambda server=server: Connection(server), "127.0.0.1", port, backlog=4096)  # type: ignore[misc]
    print("ready", flush=True)  # noqa: T201
    await loop.run_in_executor(None, sys.stdin.readline)
    clock.began = loop.time()
    await loop.run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    uvloop.run(main(workloads(float(sys.argv[2]))[int(sys.argv[1])], [int(port) for port in sys.argv[3:]]))
