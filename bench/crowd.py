"""Clients that do not wait for each other: requests or whole sessions, at times that do not depend on the responses.

    python -m bench.crowd PLAN FILE

PLAN is the JSON of a Plan. Starts when a line comes on standard input; writes every request to FILE as a JSON list of
Seen.
"""

import asyncio
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import uvloop

MOST_CONNECTIONS: Final = 4000


@dataclass(frozen=True, slots=True)
class Crowd:
    """The clients from `start` to `end` (seconds): requests or sessions per second, and the number of sources."""

    name: str
    start: float
    end: float
    rate: float
    sources: int = 0
    """0: each has a source of its own."""
    cookie: str = ""
    length: float = 1.0
    """Requests of a session on average; 1.0: single requests."""
    think: float = 0.0
    """Seconds between the answer to one and the next, on average."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests and servers: requests of `mean` seconds of work, exponential; clients give up after `patience`."""

    port: int
    crowds: tuple[Crowd, ...]
    mean: float
    patience: float = 5.0
    seed: int = 1

    def arrivals(self) -> Iterator[tuple[float, int, Crowd, str, list[float]]]:
        """(when, number, crowd, source, sizes of the requests) of every session, one crowd after the other."""
        chance = random.Random(self.seed)  # noqa: S311 - the same requests each time
        number = 0
        for index, crowd in enumerate(self.crowds):
            now = crowd.start
            while (now := now + chance.expovariate(crowd.rate)) < crowd.end:
                number += 1
                who = number if crowd.sources == 0 else chance.randrange(crowd.sources)
                source = f"10.{index}.{who >> 8 & 255}.{who & 255}"
                length = 1
                while crowd.length > 1 and chance.random() >= 1 / crowd.length:
                    length += 1
                yield now, number, crowd, source, [chance.expovariate(1 / self.mean) for _ in range(length)]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: its crowd, its session and place in it (of how many), when it was sent, and the result.

    `status` 0: no answer within the patience, or a broken connection.
    """

    crowd: str
    session: int
    place: int
    length: int
    at: float
    seconds: float
    status: int


class Visitor:
    """One session: a connection that is reopened when it is closed, and the cookies that it has received."""

    def __init__(self, plan: Plan, source: str, cookie: str) -> None:
        self._plan = plan
        self._source = source
        self._cookies = dict([cookie.split("=", 1)]) if cookie else {}
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, size: float) -> int:
        """The status of the answer, 0 without one."""
        try:
            async with asyncio.timeout(self._plan.patience):
                return await self._ask(size)
        except (OSError, TimeoutError, EOFError, ValueError):
            self.leave()
            return 0

    async def _ask(self, size: float) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._plan.port)
        reader, writer = self._streams
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        lines = f"X-Forwarded-For: {self._source}\r\n" + (f"Cookie: {cookies}\r\n" if cookies else "")
        writer.write(f"GET /{size:.6f} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length, close = 0, False
        for line in head.split("\r\n")[1:]:
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = int(value)
            elif name.lower() == "set-cookie":
                key, _, rest = value.strip().partition("=")
                self._cookies[key] = rest.partition(";")[0]
            elif name.lower() == "connection":
                close = "close" in value.lower()
        await reader.readexactly(length)
        if close:
            self.leave()
        return int(head[9:12])

    def leave(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def main(plan: Plan) -> list[Seen]:
    """Send all requests; return the results. A session ends with its first request that is not answered with 200."""
    loop = asyncio.get_running_loop()
    arrivals = sorted(plan.arrivals(), key=lambda item: item[0])
    chance = random.Random(plan.seed)  # noqa: S311 - as above
    found: list[Seen] = []
    tasks: set[asyncio.Task[None]] = set()
    print("ready", flush=True)  # noqa: T201
    await loop.run_in_executor(None, sys.stdin.readline)
    began = loop.time()

    async def session(number: int, crowd: Crowd, source: str, sizes: list[float]) -> None:
        visitor = Visitor(plan, source, crowd.cookie)
        for place, size in enumerate(sizes):
            if place:
                await asyncio.sleep(chance.expovariate(1 / crowd.think))
            at = loop.time()
            status = await visitor.ask(size)
            found.append(Seen(crowd.name, number, place, len(sizes), at - began, loop.time() - at, status))
            if status != 200:
                break
        visitor.leave()

    for due, number, crowd, source, sizes in arrivals:
        wait = began + due - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        if len(tasks) >= MOST_CONNECTIONS:
            found.append(Seen(crowd.name, number, 0, len(sizes), due, 0.0, 0))
            continue
        task = loop.create_task(session(number, crowd, source, sizes))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    end = max(crowd.end for crowd in plan.crowds)
    if tasks:
        await asyncio.wait(tasks, timeout=max(0.0, began + end + 2 * plan.patience - loop.time()))
    for task in tasks:
        task.cancel()
    return found


def read(text: str) -> Plan:
    """A plan from its JSON."""
    data = json.loads(text)
    return Plan(**{**data, "crowds": tuple(Crowd(**crowd) for crowd in data["crowds"])})


if __name__ == "__main__":
    seen = uvloop.run(main(read(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps([list(asdict(item).values()) for item in seen]))
