"""Ten minutes of mixed traffic with faults: nothing may grow, and nothing may happen that is not explained.

    python -m bench.soak [--seconds 600] [--seed 1]

Polite clients check every answer, rude ones break every rule; servers are killed, stopped and started, a worker is
killed, the site file is reloaded, changed and broken, logs are rotated. Memory and descriptors of the supervisor, of
control and of worker 0 are sampled all the time. At the end comes an upgrade under load, which must cost nothing.
"""

import asyncio
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import psutil
from rich.console import Console
from rich.table import Table
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bench.faults import Faults
from bench.machine import facts
from bench.traffic import Results, polite, rude, tunnel
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.waiting import free_port

RESULT = Path(__file__).parent / "results" / "soak.json"
POLITE, RUDE, TUNNELS = 12, 8, 4
SERVERS = 3
SAMPLES = 100  # over the whole time
QUIET = 8.0
"""Seconds until all that idles has been closed: longer than every timeout of the site."""
LOOKS = 30
MAX_GROWTH = 0.03
SLACK = 1 << 20
"""Bytes that a median may grow by in any case: what an allocator does on its own."""

EXPLAINED = {
    "a worker was killed": r"ERROR .*worker 1 \(pid \d+\) was killed by SIGKILL; starting another",
    "a broken site file": r"ERROR .*reload refused; keeping",
    "a server is down": r"WARNING .*server app/app\d is DOWN",
}


@dataclass(frozen=True, slots=True)
class Process:
    """What became of a process: medians of resident bytes early and late, descriptors when idle before and after."""

    name: str
    rss_early: int
    rss_late: int
    rss_most: int
    fds_before: int
    fds_after: int
    fds_most: int

    def problems(self) -> list[str]:
        """Return what has grown."""
        found = []
        if self.rss_late > self.rss_early * (1 + MAX_GROWTH) + SLACK:
            found.append(f"{self.name}: memory grew from {self.rss_early} to {self.rss_late} bytes")
        if self.fds_after > self.fds_before:
            found.append(f"{self.name}: {self.fds_before} descriptors before, {self.fds_after} after")
        return found


class Watch:
    """Samples memory and descriptors of the processes that live through it all."""

    def __init__(self, gateway: GatewayProcess) -> None:
        pids = {"supervisor": gateway.process.pid, "worker 0": gateway.workers()[0]}
        if control := gateway.control():
            pids["control"] = control
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._rss: dict[str, list[int]] = {name: [] for name in pids}
        self._fds: dict[str, list[int]] = {name: [] for name in pids}
        self._before: dict[str, int] = {}

    async def descriptors(self) -> dict[str, int]:
        """Return how many each process has open between two health checks: the fewest of several looks."""
        looks = []
        for _ in range(LOOKS):
            looks.append({name: process.num_fds() for name, process in self._processes.items()})
            await asyncio.sleep(0.1)
        return {name: min(look[name] for look in looks) for name in self._processes}

    async def idle_before(self) -> None:
        """Take the descriptors of now as those of an idle gateway."""
        self._before = await self.descriptors()

    async def sample(self, every: float, stop: asyncio.Event) -> None:
        """Sample until told to stop."""
        while not stop.is_set():
            for name, process in self._processes.items():
                self._rss[name].append(process.memory_info().rss)
                self._fds[name].append(process.num_fds())
            await asyncio.sleep(every)

    async def result(self) -> list[Process]:
        """Return what became of each, now that the gateway idles again. Its first quarter is warm-up."""
        after = await self.descriptors()
        rows = []
        for name, rss in self._rss.items():
            quarter = len(rss) // 4
            early, late = rss[quarter : 2 * quarter], rss[-quarter:]
            rows.append(
                Process(
                    name,
                    int(statistics.median(early)),
                    int(statistics.median(late)),
                    max(rss),
                    self._before[name],
                    after[name],
                    max(self._fds[name]),
                )
            )
        return rows


def description(servers: list[BackendServer], mirror_port: int, directory: Path) -> dict[str, Any]:
    """Return the site: short patience everywhere, so that every timeout happens many times."""
    found = site(
        servers,
        workers=2,
        balance="least-connections",
        check={"http": "/check", "interval": "500ms", "timeout": "1s", "rise": 1, "fall": 2},
        timeouts={"connect": "1s", "response": "2s", "idle": "3s"},
    )
    found["frontends"][0]["limits"] = {"header_timeout": "2s", "idle_timeout": "4s"}
    found["backends"]["mirror"] = {"servers": [f"127.0.0.1:{mirror_port}"]}
    found["routes"].insert(0, {"match": {"path": "= /ws"}, "backend": "mirror"})
    found["access_log"] = {"path": str(directory / "access.log"), "format": "json"}
    return found


async def mirror(connection: ServerConnection) -> None:
    """Send every message of a WebSocket back."""
    with suppress(ConnectionClosed):  # a worker may be killed
        async for message in connection:
            await connection.send(message)


@asynccontextmanager
async def carried(port: int, results: Results, seed: int) -> AsyncIterator[None]:
    """Run all clients inside the block."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(POLITE):
            group.create_task(polite(port, results, stop, random.Random(f"{seed} polite {number}")))  # noqa: S311
        for number in range(RUDE):
            group.create_task(rude(port, results, stop, random.Random(f"{seed} rude {number}")))  # noqa: S311
        for number in range(TUNNELS):
            group.create_task(tunnel(port, results, stop, random.Random(f"{seed} tunnel {number}")))  # noqa: S311
        yield
        stop.set()


async def soak(
    gateway: GatewayProcess, servers: list[BackendServer], mirror_port: int, seconds: float, seed: int
) -> tuple[Results, Counter[str], list[Process]]:
    """Warm up, soak, rest, measure, upgrade."""
    results = Results()
    watch = Watch(gateway)
    faults = Faults(gateway, servers, results, random.Random(f"{seed} faults"))  # noqa: S311
    async with serve(mirror, "127.0.0.1", mirror_port):
        async with carried(gateway.port, results, seed + 1):
            await asyncio.sleep(min(5.0, seconds / 10))
        # The surplus socket of a former worker stays open, so that no client in its queue is reset: open it now.
        await faults.change_workers()
        await asyncio.sleep(QUIET)
        await watch.idle_before()

        stop = asyncio.Event()
        async with carried(gateway.port, results, seed), asyncio.TaskGroup() as group:
            group.create_task(watch.sample(seconds / SAMPLES, stop))
            group.create_task(faults.run(stop))
            await asyncio.sleep(seconds)
            stop.set()
        await asyncio.sleep(QUIET)
        processes = await watch.result()

        async with carried(gateway.port, results, seed + 2):
            await asyncio.sleep(2.0)
            await asyncio.to_thread(gateway.upgrade)
            await asyncio.sleep(2.0)
    return results, faults.caused, processes


def explain(log: str) -> tuple[Counter[str], list[str]]:
    """Return how often each explained kind of warning and error is in the log, and the lines that are none of them."""
    explained: Counter[str] = Counter()
    others = []
    for line in re.findall(r"^\S+ \S+ (?:WARNING|ERROR|CRITICAL) .*$|^Traceback.*$", log, re.MULTILINE):
        why = next((why for why, pattern in EXPLAINED.items() if re.search(pattern, line)), None)
        if why is None:
            others.append(line)
        else:
            explained[why] += 1
    return explained, others


def show(console: Console, results: Results, caused: Counter[str], processes: list[Process]) -> None:
    """Print what happened."""
    table = Table("request", "outcomes", title="traffic")
    for kind, outcomes in sorted(results.outcomes.items()):
        table.add_row(kind, ", ".join(f"{outcome}: {count}" for outcome, count in outcomes.most_common()))
    console.print(table)
    console.print("faults: " + ", ".join(f"{count} x {name}" for name, count in caused.most_common()))
    table = Table("process", "RSS early", "late", "most", "descriptors idle before", "after", "most", title="growth")
    for row in processes:
        sizes = (f"{size / 1e6:.1f} MB" for size in (row.rss_early, row.rss_late, row.rss_most))
        table.add_row(row.name, *sizes, str(row.fds_before), str(row.fds_after), str(row.fds_most))
    console.print(table)


@click.command()
@click.option("--seconds", default=600.0, show_default=True, help="How long faults and traffic last.")
@click.option("--seed", default=1, show_default=True, help="Of everything that is left to chance.")
def main(seconds: float, seed: int) -> None:
    """Soak the gateway; exit status 1 if anything grew or happened without an explanation."""
    console = Console()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        servers = [stack.enter_context(BackendServer(directory, f"app{number}")) for number in range(1, SERVERS + 1)]
        mirror_port = free_port()
        gateway = stack.enter_context(GatewayProcess(directory, description(servers, mirror_port, directory)))
        results, caused, processes = asyncio.run(soak(gateway, servers, mirror_port, seconds, seed))
        gateway.stop()
        dead = [death.line for death in gateway.take_deaths()]
        explained, unexplained = explain(gateway.log)
    show(console, results, caused, processes)
    problems = [*results.unexpected, *dead, *(line for line in unexplained if line not in dead)]
    for row in processes:
        problems += row.problems()
    requests = sum(outcomes.total() for outcomes in results.outcomes.values())
    console.print(f"{requests} requests in {time.monotonic() - began:.0f} s")
    console.print("log: " + (", ".join(f"{count} x {why}" for why, count in explained.most_common()) or "nothing"))
    for problem in problems[:50]:
        console.print(f"[red]{problem}", highlight=False)
    RESULT.write_text(
        json.dumps(
            {
                "machine": facts(),
                "seconds": seconds,
                "seed": seed,
                "requests": requests,
                "outcomes": results.outcomes,
                "faults": caused,
                "processes": [asdict(row) for row in processes],
                "log": explained,
                "problems": problems,
            },
            indent=1,
        )
        + "\n"
    )
    console.print("nothing grew, nothing unexplained" if not problems else f"{len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
