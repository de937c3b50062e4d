"""The limit of concurrency that follows latency, at simulated servers: virtual time, and chance with a seed."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean, pstdev

import pytest

from qos.concurrency import Adaptive

LOOK = 0.01
"""Seconds between two looks at most: a gateway looks with every request."""


@dataclass
class Farm:
    """`places` servers that do one request at a time, in the order in which they came; requests wait before the limit
    for no longer than `patience`."""

    places: int
    service: Callable[[random.Random], float]
    limit: float = 10.0
    seed: int = 1
    patience: float = 0.1
    now: float = 0.0
    history: list[tuple[float, float, str]] = field(default_factory=list)
    """(time, limit, why) at each look."""
    finished: list[tuple[float, float]] = field(default_factory=list)
    """(time, how long it was at the servers) of each answer."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.adaptive = Adaptive(self.limit, 1)
        self._at: dict[int, float] = {}
        self._waiting: deque[tuple[int, float]] = deque()
        self._queue: deque[float] = deque()
        self._busy = self._number = self._answers = 0
        self._seconds = 0.0
        self._events: list[tuple[float, int, str]] = []
        self._next_look = self._next_arrival = 0.0

    def run(self, seconds: float, rate: float) -> None:
        """Let requests arrive by chance, so many per second."""
        end = self.now + seconds
        self._next_arrival = self.now + self.random.expovariate(rate)
        while True:
            done = self._events[0][0] if self._events else end
            self.now = min(done, self._next_arrival, self._next_look, end)
            if self.now == end:
                return
            if self.now == done:
                _, number, _ = heapq.heappop(self._events)
                self._finish(number)
            elif self.now == self._next_arrival:
                self._queue.append(self.now)
                self._next_arrival = self.now + self.random.expovariate(rate)
            else:
                self._next_look = self.now + LOOK
                age = mean(self.now - since for since in self._at.values()) if self._at else 0.0
                self.limit = self.adaptive.look(
                    round(self.now * 1e9) + 1, self._answers, self._seconds, len(self._at), age
                )
                self.history.append((self.now, self.limit, self.adaptive.why))
            self._admit()

    def _admit(self) -> None:
        while self._queue and (len(self._at) < int(self.limit) or self._queue[0] < self.now - self.patience):
            if self._queue.popleft() < self.now - self.patience:
                continue
            self._number += 1
            self._at[self._number] = self.now
            self._waiting.append((self._number, self.service(self.random)))
            self._serve()

    def _serve(self) -> None:
        while self._waiting and self._busy < self.places:
            self._busy += 1
            number, takes = self._waiting.popleft()
            heapq.heappush(self._events, (self.now + takes, number, ""))

    def _finish(self, number: int) -> None:
        took = self.now - self._at.pop(number)
        self._busy -= 1
        self._answers += 1
        self._seconds += took
        self.finished.append((self.now, took))
        self._serve()

    def limits(self, since: float, until: float = 1e9, *, probes: bool = False) -> list[float]:
        return [limit for at, limit, why in self.history if since <= at < until and (probes or why != "probe")]

    def speed(self, since: float) -> float:
        """Answers per second."""
        return sum(at >= since for at, _ in self.finished) / (self.now - since)

    def took(self, since: float, until: float = 1e9) -> float:
        """The mean time at the servers."""
        return mean(took for at, took in self.finished if since <= at < until)


def steady(seconds: float) -> Callable[[random.Random], float]:
    return lambda _: seconds


def exponential(seconds: float) -> Callable[[random.Random], float]:
    return lambda chance: chance.expovariate(1 / seconds)


SERVICES = {
    "steady": (0.01, steady(0.01)),
    "exponential": (0.01, exponential(0.01)),
    "slow": (0.1, exponential(0.1)),
    "two kinds": (0.0098, lambda chance: 0.002 if chance.random() < 0.9 else 0.08),
}
"""How long requests take on average, and each."""


@pytest.mark.slow
@pytest.mark.parametrize("places", [4, 32, 200])
@pytest.mark.parametrize("kind", SERVICES)
def test_under_overload_servers_are_busy_and_answers_quick_without_swings(kind: str, places: int) -> None:
    takes, service = SERVICES[kind]
    farm = Farm(places, service)
    farm.run(16, rate=2 * places / takes)
    # A limit of a few places moves by half of them, and times of two kinds take long to be known.
    most = 4.5 if places == 4 or kind == "two kinds" else 2.2
    assert farm.speed(8) > 0.93 * places / takes
    assert farm.took(8) < most * takes
    limits = farm.limits(8)
    assert places < mean(limits) < most * places
    assert pstdev(limits) < 0.3 * mean(limits)


def test_a_start_under_overload_with_far_too_high_a_limit_is_made_up_for() -> None:
    farm = Farm(4, exponential(0.01), limit=100.0)
    farm.run(10, rate=1200)
    assert max(farm.limits(8)) < 16
    assert farm.speed(8) > 0.94 * 400


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    farm = Farm(32, exponential(0.01))
    farm.run(5, rate=300)
    assert farm.limit <= 15
    assert farm.adaptive.why == "unused"
    assert farm.adaptive.base == pytest.approx(0.01, rel=0.3)


def test_a_step_from_half_to_three_times_what_servers_can_do_is_held_at_once() -> None:
    farm = Farm(32, exponential(0.01))
    farm.run(5, rate=1600)
    farm.run(2, rate=9600)
    assert farm.took(5, 5.2) < 2.5 * 0.01
    assert farm.took(5.2) < 2.5 * 0.01
    assert farm.speed(5.2) > 0.9 * 3200


def test_servers_that_become_slow_get_less_within_200_ms_and_their_new_speed_is_learned() -> None:
    farm = Farm(32, exponential(0.01))
    farm.run(8, rate=4800)
    before = farm.limit
    farm.service = exponential(0.04)
    farm.run(0.2, rate=4800)
    assert farm.limit < 0.75 * before
    farm.run(8, rate=4800)
    assert farm.speed(14) > 0.94 * 800
    assert farm.adaptive.base == pytest.approx(0.04, rel=0.4)


def test_servers_that_answer_nothing_get_less() -> None:
    farm = Farm(32, exponential(0.01))
    farm.run(8, rate=4800)
    before = farm.limit
    farm.service = steady(60)
    farm.run(3, rate=4800)
    assert farm.limit < 0.6 * before
    assert farm.adaptive.why in {"latency", "probe"}


def test_a_burst_for_a_moment_changes_nothing_for_later() -> None:
    farm = Farm(32, exponential(0.01))
    for _ in range(10):
        farm.run(0.3, rate=6400)
        farm.run(0.7, rate=800)
    assert farm.took(0) < 2 * 0.01
    assert farm.limit < 100


def test_what_a_worker_had_counted_may_vanish() -> None:
    adaptive = Adaptive(10.0, 1)
    for i in range(1, 20):
        adaptive.look(i * 100_000_000, i * 100, i * 1.0, 10)
    assert adaptive.look(2_000_000_000, 5, 0.05, 10) == adaptive.look(2_100_000_000, 105, 1.05, 10)
    assert adaptive.base == pytest.approx(0.01)
