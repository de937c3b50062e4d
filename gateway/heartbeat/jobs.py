"""Jobs: sequences of steps with pauses or programs between them, in a loop that never blocks.

A job is a generator. It yields seconds to wait, or a Run, whose exit status it receives.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Run:
    """A program to run. `queue`: programs of the same queue run one after the other."""

    program: str
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    timeout: float = 20.0
    queue: str = ""


Job = Generator[float | Run, int, None]


@dataclass(slots=True)
class _Active:
    job: Job
    due: float | None
    """When it continues; None while a program runs."""
    begun: bool = False


class Jobs:
    """The running jobs, by key; `start` is called with the number and the description of a program to run."""

    def __init__(self, start: Callable[[int, Run], None]) -> None:
        self._start = start
        self._active: dict[str, list[_Active]] = {}
        self._running: dict[int, tuple[str, _Active]] = {}
        self._count = 0

    def add(self, key: str, job: Job, now: float) -> None:
        """Add a job; its first step runs at once."""
        active = _Active(job, now)
        self._active.setdefault(key, []).append(active)
        self._go_on(key, active, 0, now)

    def cancel(self, key: str) -> None:
        """Drop all jobs of this key; programs that run are not stopped."""
        for active in self._active.pop(key, []):
            active.job.close()
        self._running = {n: (owner, active) for n, (owner, active) in self._running.items() if owner != key}

    def ended(self, number: int, status: int, now: float) -> None:
        """A program has ended."""
        key, active = self._running.pop(number, ("", None))
        if active is not None:
            self._go_on(key, active, status, now)

    def tick(self, now: float) -> None:
        """Continue the jobs that are due."""
        for key, jobs in list(self._active.items()):
            for active in list(jobs):
                if active.due is not None and active.due <= now:
                    self._go_on(key, active, 0, now)

    def next_due(self) -> float:
        """The time of the next step."""
        times = (active.due for jobs in self._active.values() for active in jobs if active.due is not None)
        return min(times, default=float("inf"))

    def __len__(self) -> int:
        return sum(len(jobs) for jobs in self._active.values())

    def _go_on(self, key: str, active: _Active, status: int, now: float) -> None:
        active.due = None
        try:
            step = active.job.send(status) if active.begun else next(active.job)
            active.begun = True
        except StopIteration:
            jobs = self._active.get(key, [])
            if active in jobs:
                jobs.remove(active)
            if not jobs:
                self._active.pop(key, None)
            return
        if isinstance(step, Run):
            self._count += 1
            self._running[self._count] = key, active
            self._start(self._count, step)
        else:
            active.due = now + step
