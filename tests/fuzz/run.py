"""Fuzz: `python -m tests.fuzz.run [SECONDS] [TARGET …]`, all targets for so long altogether (60)."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import connections, coverage
from tests.fuzz.engine import LONGEST, MOST, Finding, Fuzzer, Target
from tests.fuzz.shelter import Crash, Shelter
from tests.fuzz.shrink import shrink
from tests.fuzz.targets import TARGETS, WORDS

CORPUS = Path(__file__).with_name("corpus")


@dataclass(frozen=True, slots=True)
class Goal:
    """A target, and how its inputs are made, read and written."""

    target: Target
    words: Sequence[bytes]
    grain: int = 1
    longest: int = LONGEST
    most: int = MOST
    seeds: Callable[[], list[bytes]] = list
    read: Callable[[Path], bytes] = Path.read_bytes
    write: Callable[[bytes], bytes] = bytes


GOALS: dict[str, Goal] = {name: Goal(target, WORDS[name]) for name, target in TARGETS.items()}
GOALS["connections"] = Goal(
    connections.run,
    connections.words(),
    grain=connections.GRAIN,
    longest=400,
    most=20_000,
    seeds=connections.seeds,
    read=lambda path: connections.encode(path.read_text()),
    write=lambda data: connections.written(data).encode(),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What fuzzing a target came to; `data` is an input that it fails for."""

    runs: int
    events: int
    cpu: float
    """Seconds of processor time."""
    behaviours: int
    edges: int | None
    data: bytes | None = None
    error: str = ""


def corpus(name: str) -> list[bytes]:
    """Return the inputs to start from: each file of the target's directory, by name, then its seeds."""
    goal, directory = GOALS[name], CORPUS / name
    files = sorted(directory.iterdir()) if directory.exists() else []
    return [goal.read(path) for path in files] + goal.seeds()


def fuzz(name: str, seconds: float, seed: int, note: Callable[[bytes], object] = bool) -> Outcome:
    """Fuzz a target for so long, or until an input fails."""
    goal = GOALS[name]
    fuzzer = Fuzzer(
        coverage.guided(goal.target),
        goal.words,
        seed,
        grain=goal.grain,
        longest=goal.longest,
        most=goal.most,
        note=note,
    )
    before, began = connections.counted, time.process_time()
    data, error, behaviours = None, "", 0
    try:
        behaviours = fuzzer.run(corpus(name), seconds)
    except Finding as finding:
        data, error = finding.data, f"{type(finding.error).__name__}: {finding.error}"
    used = time.process_time() - began
    return Outcome(fuzzer.runs, connections.counted - before, used, behaviours, coverage.edges(), data, error)


def failure(name: str, data: bytes) -> str:
    """Run one input in a process of its own; return what is wrong with it, or "" if nothing is."""

    def work() -> str:
        try:
            GOALS[name].target(data)
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__}: {error}"
        return ""

    try:
        return str(Shelter().run(work))
    except Crash as crash:
        return str(crash)


def kind(error: str) -> str:
    """What failures of one fault have in common."""
    return ":".join(error.split(":")[:2])[:80]


def smaller(name: str, data: bytes, error: str, tries: int = 400) -> bytes:
    """Return the smallest input found that fails in the same way."""
    goal = GOALS[name]
    return shrink(data, lambda less: kind(failure(name, less)) == kind(error), goal.grain, tries)


def hunt(name: str, seconds: float, seed: int) -> int:
    """Fuzz a target in a child; return the exit status. A finding is added to the corpus, and so tried first from then on."""
    shelter, goal = Shelter(), GOALS[name]
    began = time.monotonic()
    try:
        found: Outcome = shelter.run(lambda: fuzz(name, seconds, seed, shelter.note))
    except Crash as crash:
        found = Outcome(0, 0, 0.0, 0, None, crash.data, str(crash))
    if found.data is None:
        rate = ""
        if found.events:
            rate = f", {found.events} events ({found.events / seconds:.0f} per second, {found.events / found.cpu:.0f} of CPU)"
        edges = f", {found.edges} edges" if found.edges else ""
        sys.stdout.write(f"{name}: {found.runs} inputs{rate}, {found.behaviours} behaviours{edges}, seed {seed}\n")
        return 0
    sys.stdout.write(f"{name}: after {time.monotonic() - began:.0f} s: {found.error}\n")
    data = found.data
    if goal.grain > 1:
        error = next(filter(None, (failure(name, data) for _ in range(3))), "")
        if error:
            data = smaller(name, data, error)
            sys.stdout.write(f"made smaller: {failure(name, data)}\n{goal.write(data).decode()}")
        else:
            sys.stdout.write("alone, this input does not fail: what came before it matters, or the time\n")
    (CORPUS / name).mkdir(exist_ok=True)
    path = CORPUS / name / f"found-{seed:x}"
    path.write_bytes(goal.write(data))
    sys.stdout.write(f"written to {path}\n")
    return 1


def main(seconds: float, names: list[str], seed: int) -> int:
    """Fuzz all of `names`; return the exit status."""
    return max([hunt(name, seconds / len(names), seed) for name in names])


if __name__ == "__main__":
    sys.exit(
        main(
            float(sys.argv[1]) if len(sys.argv) > 1 else 60.0,
            sys.argv[2:] or list(GOALS),
            int(os.environ.get("FUZZ_SEED", "0")) or int.from_bytes(os.urandom(4)),
        )
    )
