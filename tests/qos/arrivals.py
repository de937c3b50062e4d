"""Sessions that arrive at a site whose servers have a fixed capacity, in simulated time."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from qos.sessions import SessionTable, size

SLOTS: Final = 16
"""Requests that the servers work on at once."""
PLACES: Final = 20
"""Requests that they get at once."""
LOOKS: Final = 0.05
"""Seconds from one measurement to the next."""
PATIENCE: Final = 5.0
"""Seconds that a client waits for an answer."""
TARGET: Final = 0.02
"""Seconds that a request may wait in the gateway before no other session begins."""
SMALL: Final = {"slots": 32768, "ring": 65536}


@dataclass(frozen=True, slots=True)
class Crowd:
    """Clients: sessions at `load` times the capacity, of `length` requests on average, with `think` seconds between.

    The first request takes `work` seconds on average, later ones `later` times as long, and each is followed by `parts`
    requests that ask for parts of its page. With a queue, clients come again every `refresh` seconds.
    """

    load: float
    length: int
    think: float = 0.3
    work: float = 0.04
    later: float = 1.0
    parts: int = 0
    idle: int = 6
    queue: int = 0
    refresh: int = 5

    @property
    def rate(self) -> float:
        """Sessions per second."""
        mean = (1 + self.later * (self.length - 1)) / self.length * self.work * (1 + self.parts)
        return self.load * SLOTS / (mean * self.length)


@dataclass(slots=True)
class Visit:
    """A session: how many requests it will send, what was sent so far, and its ticket."""

    length: int
    sent: int = 0
    parts: int = 0
    ticket: tuple[str, int, int, int] | None = None


@dataclass(slots=True)
class Seen:
    """The results, without those of the time in which the number of sessions is found."""

    admitted: int = 0
    refused: int = 0
    cut: int = 0
    """Sessions that ended because a client lost patience or was refused in the middle."""
    work: float = 0.0
    """What the servers did, as a share of what they can."""
    times: list[float] = field(default_factory=list)
    """Seconds from each request to its answer."""


class Site:
    """The servers, their queue in the gateway, and the table of sessions."""

    def __init__(self, crowd: Crowd, *, until: float, learning: float, seed: int = 1) -> None:
        self.seen = Seen()
        self._crowd = crowd
        self._until = until
        self._learning = learning
        self._chance = random.Random(seed)
        self._table = SessionTable(bytearray(size(**SMALL)), b"0123456789abcdef", **SMALL)
        self._terms: dict[str, Any] = {"most": 0, "idle": crowd.idle, "places": crowd.queue, "refresh": crowd.refresh}
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._now = 0.0
        self._working = 0
        self._at_servers: deque[tuple[float, Visit]] = deque()
        self._waiting: deque[tuple[float, Visit]] = deque()
        self._places = 0
        self._seconds = 0.0

    def run(self) -> Seen:
        """All sessions, to the end."""
        at = 0.0
        while (at := at + self._chance.expovariate(self._crowd.rate)) < self._until:
            length = 1
            while self._chance.random() >= 1 / self._crowd.length:
                length += 1
            self._later(at, self._page, Visit(length))
        self._later(0.0, self._measure)
        before = 0.0
        while self._events:
            self._now, _, then, arguments = heapq.heappop(self._events)
            if self._now >= self._until:
                break
            if self._counts():
                self.seen.work += self._working * (self._now - max(before, self._learning))
            before = self._now
            then(*arguments)
        self.seen.work /= SLOTS * (self._until - self._learning)
        return self.seen

    def _counts(self) -> bool:
        return self._now >= self._learning

    def _later(self, at: float, then: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (at, next(self._order), then, arguments))

    def _measure(self) -> None:
        self._table.measure_now(
            self._now,
            places=PLACES,
            at_servers=self._places,
            waiting=len(self._waiting),
            seconds=self._seconds,
            target=TARGET,
            queue=self._crowd.queue,
            refresh=self._crowd.refresh,
        )
        self._later(self._now + LOOKS, self._measure)

    def _page(self, visit: Visit) -> None:
        """Send the next request of a session, or ask for one."""
        fresh = visit.sent == 0
        what, sent, _ = self._table.ask(visit.ticket, self._now, **self._terms)
        visit.ticket = sent or visit.ticket
        if what == "waiting":
            self._later(self._now + self._crowd.refresh * self._chance.uniform(0.9, 1.1), self._page, visit)
        elif what == "full" or (not fresh and what == "new"):
            self.seen.refused += fresh and self._counts()
            self.seen.cut += not fresh
        else:
            self.seen.admitted += fresh and self._counts()
            visit.sent += 1
            self._request(visit)

    def _request(self, visit: Visit) -> None:
        if self._places < PLACES and not self._waiting:
            self._enter(self._now, visit)
        else:
            self._waiting.append((self._now, visit))

    def _enter(self, came: float, visit: Visit) -> None:
        self._places += 1
        if self._working < SLOTS:
            self._work(came, visit)
        else:
            self._at_servers.append((came, visit))

    def _work(self, came: float, visit: Visit) -> None:
        self._working += 1
        work = self._crowd.work * (self._crowd.later if visit.sent > 1 else 1.0)
        self._later(self._now + self._chance.expovariate(1 / work), self._answer, came, self._now, visit)

    def _answer(self, came: float, began: float, visit: Visit) -> None:
        self._working -= 1
        self._places -= 1
        self._seconds += 0.05 * (self._now - began - self._seconds)
        if self._at_servers:
            self._work(*self._at_servers.popleft())
        if self._waiting and self._places < PLACES:
            self._enter(*self._waiting.popleft())
        if self._counts():
            self.seen.times.append(self._now - came)
        if visit.parts:
            visit.parts -= 1
        elif self._now - came > PATIENCE:
            self.seen.cut += 1
        else:
            for _ in range(self._crowd.parts):
                self._later(self._now + self._chance.uniform(0.0, 0.05), self._part, visit)
            if visit.sent < visit.length:
                self._later(self._now + self._chance.expovariate(1 / self._crowd.think), self._page, visit)

    def _part(self, visit: Visit) -> None:
        visit.parts += 1
        self._request(visit)
