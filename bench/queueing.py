"""Workloads for balancing, simulated: servers with queues, an oracle, the gateway's policies.

A server is a pool of `slots` that work on one request each, first come first served, at a speed of its own. Time is in
seconds. The same classes describe the simulation and what bench/pools.py does in real time.
"""

import heapq
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.balance import estimate
from gateway.balance.policies import new_policy
from gateway.balance.policy import Members
from gateway.board import Board

Pick: TypeAlias = "Callable[[float, float, Sequence[Pool]], int]"
"""(time, size of the request, pools) → index of the server."""
WORKERS: Final = 2


@dataclass(frozen=True, slots=True)
class Phase:
    """From `start` to `end` a server has `speed`, fails at once (`fails`), or takes `fixed` seconds for everything."""

    server: int
    start: float
    end: float
    speed: float = 1.0
    fails: bool = False
    fixed: float = 0.0


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload: requests of `mean` seconds of work each (log-normal, coefficient of variation `spread`)."""

    name: str
    speeds: tuple[float, ...]
    load: float
    seconds: float
    slots: int = 4
    mean: float = 0.1
    spread: float = 1.0
    phases: tuple[Phase, ...] = ()
    seed: int = 1

    @property
    def rate(self) -> float:
        """Requests a second: `load` of what all servers together can do."""
        return self.load * sum(self.speeds) * self.slots / self.mean

    def trace(self) -> list[tuple[float, float]]:
        """(arrival, size) of every request: a Poisson process, sizes in seconds of work at speed 1."""
        chance = random.Random(self.seed)  # noqa: S311 - the same requests each time
        sigma = math.sqrt(math.log(1 + self.spread**2))
        mu = math.log(self.mean) - sigma**2 / 2
        now, found = 0.0, []
        while (now := now + chance.expovariate(self.rate)) < self.seconds:
            found.append((now, chance.lognormvariate(mu, sigma)))
        return found

    def service(self, server: int, now: float, size: float) -> tuple[float, bool]:
        """How long `server` works on a request that it begins at `now`, and whether it does it well."""
        speed = self.speeds[server]
        for phase in self.phases:
            if phase.server == server and phase.start <= now < phase.end:
                if phase.fails:
                    return 0.001, False
                if phase.fixed:
                    return phase.fixed, True
                speed *= phase.speed
        return size / speed, True


class Pool:
    """One server in simulation."""

    def __init__(self, workload: Workload, server: int) -> None:
        self._workload = workload
        self._server = server
        self._free = [0.0] * workload.slots

    def finish(self, now: float, size: float) -> tuple[float, bool]:
        """When a request that arrives now would be done, and whether well."""
        begin = max(now, self._free[0])
        takes, good = self._workload.service(self._server, begin, size)
        return begin + takes, good

    def take(self, now: float, size: float) -> tuple[float, bool]:
        """Take a request; returns the same."""
        end, good = self.finish(now, size)
        heapq.heapreplace(self._free, end)
        return end, good


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was due, how long until its answer, whether that was a good one, and whose it was."""

    due: float
    seconds: float
    good: bool
    server: int


def oracle(now: float, size: float, pools: "Sequence[Pool]") -> int:
    """The oracle: the server at which this request ends soonest, among those that do not fail it."""
    return min(range(len(pools)), key=lambda i: _cost(*pools[i].finish(now, size)))


def _cost(end: float, good: bool) -> float:  # noqa: FBT001 - as Pool.finish returns it
    return end if good else math.inf


class Simulated:
    """A policy of the gateway on a Board of its own, with workers that take requests in turn."""

    def __init__(self, name: str, servers: int, workers: int = WORKERS, seed: int = 0) -> None:
        self._board = Board()
        rows = [(i, 1.0, 0, False, f"app{i}") for i in range(servers)]
        self._members = [Members(self._board, rows, workers, seed * workers + i + 1) for i in range(workers)]
        self._policies = [new_policy(name) for _ in range(workers)]
        self._worker = 0
        self._ahead = 0

    def pick(self, now: float, size: float, pools: "Sequence[Pool]") -> int:  # noqa: ARG002 - it does not know them
        """The same as Pick."""
        self._worker = (self._worker + 1) % len(self._members)
        server = self._policies[self._worker].choose(self._members[self._worker], (), _ns(now))
        self._ahead = estimate.picked(self._board, server, self._worker, _ns(now))
        return server

    def ticket(self) -> tuple[int, int]:
        """The data for `done` about the last picked request."""
        return self._worker, self._ahead

    def done(self, now: float, answer: Answer, ticket: tuple[int, int]) -> None:
        """Record the response."""
        worker, ahead = ticket
        estimate.answered(self._board, answer.server, worker, _ns(now), _ns(answer.due), ahead, failed=not answer.good)


def _ns(now: float) -> int:
    return round((now + 1) * 1e9)


def simulate(workload: Workload, pick: Pick, policy: Simulated | None = None) -> Iterator[Answer]:
    """Every request of the workload in the order of arrival."""
    pools = [Pool(workload, server) for server in range(len(workload.speeds))]
    under_way: list[tuple[float, int, Answer, tuple[int, int]]] = []
    for number, (now, size) in enumerate(workload.trace()):
        while policy and under_way and under_way[0][0] <= now:
            end, _, answer, ticket = heapq.heappop(under_way)
            policy.done(end, answer, ticket)
        server = pick(now, size, pools)
        end, good = pools[server].take(now, size)
        answer = Answer(now, end - now, good, server)
        if policy:
            heapq.heappush(under_way, (end, number, answer, policy.ticket()))
        yield answer


def workloads(seconds: float) -> list[Workload]:
    """All workloads. Those with phases take a minute whatever `seconds` says."""
    found = []
    for load in (0.5, 0.7, 0.9, 1.03):
        found.append(Workload("equal", (1.0,) * 4, load, seconds))
        found.append(Workload("1:2:4", (1.0, 2.0, 4.0), load, seconds))
    third = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
    return [
        *found,
        Workload(
            "one slow",
            (1.0,) * 11,
            0.15,
            60.0,
            slots=50,
            mean=0.175,
            spread=0.3,
            phases=(Phase(10, 15.0, 45.0, fixed=2.0),),
        ),
        Workload("one fails", (1.0,) * 4, 0.5, 60.0, phases=(Phase(3, 15.0, 45.0, fails=True),)),
        Workload(
            "neighbour",
            (1.0,) * 4,
            0.5,
            60.0,
            phases=tuple(Phase(i % 4, start, start + 10.0, speed=0.33) for i, start in enumerate(third)),
        ),
        *(Workload("equal", (1.0,) * 4, load, seconds) for load in (0.02, 0.05, 0.1, 0.3)),
    ]
