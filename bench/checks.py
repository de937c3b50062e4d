"""How many health checks control makes with a second of CPU time, for each kind of check and each event loop.

    python -m bench.checks [CHECKS]

Each figure is the median of ROUNDS runs of CHECKS checks (4,000), CONCURRENT at a time, against a server in C on the
other core. Kernel time counts: a check opens a connection of its own.
"""

import asyncio
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable

import uvloop

from bench.farm import directory, origin
from gateway.config.model import Check
from gateway.health.probe import Probe, Target

ROUNDS = 5
CONCURRENT = 100
CHECKS = 4000
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}
KINDS = {
    "tcp": {"tcp": True},
    "http": {"http": "/bytes/100"},
    "http with body": {"http": "/bytes/100", "expect": {"body": "~."}},
}


async def measure(port: int, check: Check, checks: int) -> float:
    """Return the checks per second of CPU time. Raises RuntimeError if one fails."""
    target = Target("app/a", 0, ("127.0.0.1", port), "a")
    left = iter(range(checks))

    probe = Probe()

    async def check_on() -> None:
        for _ in left:
            result = await probe.check(target, check)
            if not result.good:
                raise RuntimeError(f"{result.outcome.name}: {result}")

    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.gather(*(check_on() for _ in range(CONCURRENT)))
    after = resource.getrusage(resource.RUSAGE_SELF)
    return checks / (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def run_one(loop: str, kind: str, port: int, checks: int) -> float:
    """Measure in this process, once warm."""
    check = Check.model_validate(KINDS[kind])
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(measure(port, check, checks // 10))
        return runner.run(measure(port, check, checks))


def main() -> None:
    """Print a table."""
    if len(sys.argv) > 2:
        loop, kind, *numbers = sys.argv[1:]
        sys.stdout.write(json.dumps(run_one(loop, kind, *map(int, numbers))))
        return
    checks = sys.argv[1] if len(sys.argv) > 1 else str(CHECKS)
    with directory() as place, origin(place, 1, "1") as (port, _):
        for kind in KINDS:
            for loop in LOOPS:
                command = ["taskset", "-c", "0", sys.executable, "-m", "bench.checks", loop, kind, str(port), checks]
                found = [
                    float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(ROUNDS)
                ]
                sys.stdout.write(f"{kind:15} {loop:8} {statistics.median(found):7.0f} checks per CPU second\n")


if __name__ == "__main__":
    main()
