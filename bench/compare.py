"""CPU per request of the gateway, nginx, HAProxy and a relay that does nothing, side by side.

    python -m bench.compare [--rounds 5] [--seconds 2] [--only nginx,haproxy,floor]

Every proxy has processor 1 to itself, load and origins share processor 0. All run at once and are measured in
turns, A B C, A B C, so that what else happens on the machine hits them alike; medians of the rounds count.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.browser import CONNECTIONS, FIELDS, browse
from bench.machine import facts
from bench.meter import Usage
from bench.proxies import PROXIES, Proxy, compiled

LOAD_CORE, PROXY_CORE = 0, 1
ORIGINS = 3
MAX_IDLE = 0.05  # of a processor
RESULT = Path(__file__).parent / "results" / "compare.json"
FAST_DIRECTORY = Path("/dev/shm")  # noqa: S108 - logs go to memory: not the disk is measured


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of one proxy: CPU in microseconds per request, of which `user`, and requests per second."""

    cpu: float
    user: float
    rate: float


@dataclass(frozen=True, slots=True)
class Row:
    """A proxy's medians of a case, `low` and `high` of its CPU, and its ratio to the better peer."""

    proxy: str
    size: int
    cpu: float
    user: float
    low: float
    high: float
    rate: float
    ratio: float | None = None


def free_port() -> int:
    """Return a local port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Tell whether somebody listens on the local `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@contextmanager
def running(process: "subprocess.Popen[bytes]", port: int, log: Path) -> Iterator[int]:
    """Give the pid once `port` accepts, and end the process afterwards. Raises ClickException."""
    try:
        end = time.monotonic() + 10.0
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > end:
                raise click.ClickException(f"does not start: {process.args!r}\n{log.read_text()}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def origin(directory: Path, port: int) -> "subprocess.Popen[bytes]":
    """Start an origin on `port`. Raises CalledProcessError."""
    command = ["taskset", "-c", str(LOAD_CORE), compiled("origin", directory), str(port)]
    with (directory / "origin.err").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def refuse_busy(proxies: Sequence[tuple[str, int, int]]) -> None:
    """Raise ClickException if a proxy works while it has nothing to do: it would slow the others' turns."""
    before = {pid: Usage.of(pid) for _, pid, _ in proxies}
    start = time.monotonic()
    time.sleep(1.0)
    elapsed = time.monotonic() - start
    for name, pid, _ in proxies:
        share = Usage.of(pid).since(before[pid]).total / 1e6 / elapsed
        if share > MAX_IDLE:
            raise click.ClickException(f"{name} uses {share:.0%} of a processor while idle: no fair comparison")


def turn(pid: int, port: int, size: int, seconds: int) -> Round:
    """Load one proxy and measure it. Raises ClickException if a request failed."""
    before = Usage.of(pid)
    outcome = browse(port, f"/bytes/{size}", seconds, LOAD_CORE)
    used = Usage.of(pid).since(before)
    if outcome.bad or not outcome.requests:
        raise click.ClickException(f"{outcome.bad} of {outcome.requests} requests failed on port {port}")
    return Round(used.total / outcome.requests, used.user_total / outcome.requests, outcome.rate)


def measure(
    proxies: Sequence[Proxy], sizes: Sequence[int], rounds: int, seconds: int
) -> dict[tuple[str, int], list[Round]]:
    """Run all and return the rounds by proxy and size of the answer."""
    found: dict[tuple[str, int], list[Round]] = {(proxy.name, size): [] for size in sizes for proxy in proxies}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=FAST_DIRECTORY)))
        directory.chmod(0o711)  # workers of proxies drop their rights
        origins = [free_port() for _ in range(ORIGINS)]
        for port in origins:
            stack.enter_context(running(origin(directory, port), port, directory / "origin.err"))
        started = []
        for proxy in proxies:
            port = free_port()
            process = proxy.start(directory, port, origins, PROXY_CORE)
            pid = stack.enter_context(running(process, port, directory / f"{proxy.name}.err"))
            browse(port, f"/bytes/{sizes[0]}", 1, LOAD_CORE)  # pools fill, caches warm up
            started.append((proxy.name, pid, port))
        refuse_busy(started)
        for _ in range(rounds):
            for size in sizes:
                for name, pid, port in started:
                    found[name, size].append(turn(pid, port, size, seconds))
    return found


def summarise(found: dict[tuple[str, int], list[Round]]) -> list[Row]:
    """Return the medians, and their ratio to the better of nginx and HAProxy at the same size."""
    rows = []
    for (name, size), turns in found.items():
        peers = [
            statistics.median(item.cpu for item in found[peer, size])
            for peer in ("nginx", "haproxy")
            if (peer, size) in found
        ]
        cpus = [item.cpu for item in turns]
        cpu = statistics.median(cpus)
        rows.append(
            Row(
                name,
                size,
                round(cpu, 2),
                round(statistics.median(item.user for item in turns), 2),
                round(min(cpus), 2),
                round(max(cpus), 2),
                round(statistics.median(item.rate for item in turns)),
                round(cpu / min(peers), 3) if peers else None,
            )
        )
    return rows


def show(rows: Sequence[Row]) -> Table:
    """Return the table for a person."""
    table = Table(title="CPU per request (medians; ratio to the better of nginx and HAProxy)")
    table.add_column("answer", justify="right")
    table.add_column("proxy")
    for title in ("µs/request", "user", "min to max", "requests/s", "ratio"):
        table.add_column(title, justify="right")
    last = rows[0].size
    for row in rows:
        if row.size != last:
            table.add_section()
            last = row.size
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        spread = f"{row.low:.1f} to {row.high:.1f}"
        table.add_row(
            f"{row.size} B", row.proxy, f"{row.cpu:.1f}", f"{row.user:.1f}", spread, f"{row.rate:,.0f}", ratio
        )
    return table


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Turns of every proxy; the median counts.")
@click.option("--seconds", default=2, show_default=True, help="Length of a turn.")
@click.option("--only", default="", help="Names, separated by commas; without it every proxy that is installed.")
@click.option("--size", "sizes", multiple=True, type=int, default=(130, 10_000), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=RESULT, help="Where the result is kept.")
def main(rounds: int, seconds: int, only: str, sizes: tuple[int, ...], output: Path) -> None:
    """Compare CPU per request."""
    if len(os.sched_getaffinity(0)) < 2:
        raise click.ClickException("needs two processors: one for the proxy, one for load and origins")
    names = only.split(",") if only else [proxy.name for proxy in PROXIES]
    proxies = [proxy for proxy in PROXIES if proxy.name in names and proxy.is_installed()]
    for name in sorted(set(names) - {proxy.name for proxy in proxies}):
        click.echo(f"{name}: not installed, left out", err=True)
    releases = {proxy.name: proxy.release() for proxy in proxies}
    machine = facts()
    rows = summarise(measure(proxies, sizes, rounds, seconds))
    Console(file=sys.stdout).print(show(rows))
    conditions = {
        "rounds": rounds,
        "seconds": seconds,
        "connections": CONNECTIONS,
        "request_fields": len(FIELDS) + 1,
        "origins": ORIGINS,
    }
    result = {
        "machine": machine,
        "conditions": conditions,
        "releases": releases,
        "rows": [asdict(row) for row in rows],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
