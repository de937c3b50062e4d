"""An open-loop client: every request is sent at its scheduled time, on an idle or a new connection.

    python -m bench.arrivals WORKLOAD-NUMBER SECONDS PORT FILE

Starts when a line comes on standard input; writes (due, seconds, good, server) of every request to FILE as JSON.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import uvloop

from bench.queueing import workloads

TIMEOUT = 30.0
"""Seconds after the last arrival until requests without a response count as failed."""


class Client(asyncio.Protocol):
    """One connection, with at most one request under way."""

    def __init__(self, idle: "list[Client]", found: list[tuple[float, float, bool, int]]) -> None:
        self._idle = idle
        self._found = found
        self._due = -1.0
        self._began = 0.0
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, size: float, due: float, began: float) -> None:
        """Send a request that was due at `due` on the workload's clock, which began at `began` on the loop's."""
        assert self._transport is not None  # noqa: S101
        self._due, self._began, self._data = due, began, b""
        self._transport.write(b"GET /%.6f HTTP/1.1\r\nHost: a\r\n\r\n" % size)

    def data_received(self, data: bytes) -> None:
        """Process the response: a head, and a body of the length in it."""
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        server = int(lower.split(b"x-server:")[1].split(b"\r\n")[0]) if b"x-server:" in lower else -1
        self._end(good=head[9:12] == b"200", server=server)
        if b"connection: close" in lower:
            self._transport = None
        else:
            self._idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Count the request in progress as failed."""
        self._transport = None
        if self in self._idle:
            self._idle.remove(self)
        if self._due >= 0:
            self._end(good=False, server=-1)

    def _end(self, *, good: bool, server: int) -> None:
        now = asyncio.get_running_loop().time() - self._began
        self._found.append((self._due, now - self._due, good, server))
        self._due = -1.0


async def main(number: int, seconds: float, port: int) -> list[tuple[float, float, bool, int]]:
    """Send all requests; return the results."""
    loop = asyncio.get_running_loop()
    workload = workloads(seconds)[number]
    trace = workload.trace()
    idle: list[Client] = []
    found: list[tuple[float, float, bool, int]] = []
    tasks = set()
    print("ready", flush=True)  # noqa: T201
    await loop.run_in_executor(None, sys.stdin.readline)
    began = loop.time()

    async def one(size: float, due: float) -> None:
        try:
            client = idle.pop() if idle else None
            if client is None:
                _, client = await loop.create_connection(lambda: Client(idle, found), "127.0.0.1", port)
            client.ask(size, due, began)
        except OSError:
            found.append((due, loop.time() - began - due, False, -1))

    for due, size in trace:
        wait = began + due - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(one(size, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    end = loop.time() + TIMEOUT
    while len(found) < len(trace) and loop.time() < end:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.05)
    missing = len(trace) - len(found)
    found += [(0.0, TIMEOUT, False, -1)] * missing
    return found


if __name__ == "__main__":
    answers = uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
    Path(sys.argv[4]).write_text(json.dumps(answers))
