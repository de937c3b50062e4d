"""Instructions per request in every hot function, counted by callgrind in a real worker, against a stored baseline.

    python -m bench.micro [--keep]

The same requests, one after the other, make the same instructions whatever else the machine does, so a few per cent
show what a stopwatch would not. What is counted is inclusive: a function with all that it calls. The counts depend on
compiler, C library, Python and Cython: beside a baseline of others they are shown, not judged. After a change that is
worth its cost, `--keep` makes what was counted the new baseline.
"""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from bench.farm import FarmFailed, Layout, Running, farm
from bench.features import ROUTES, returning
from bench.load import Load
from bench.peers.gateway import GATEWAY, SESSION, site
from bench.peers.peer import Peer, Setup

BASELINE = Path(__file__).with_name("micro.json")
TOLERANCE = 0.05
REQUESTS = 1000
CONTROL_SECONDS = 60.0

STEPS = {
    "end of both heads": r"head_find_end",
    "request head: scan": r"head_(check_start|scan_request)",
    "request head: edit": r"edit_edit_request",
    "route": r"routes_\d+RouteTable_(candidates|decide)|routes_\d+Route_match_path",
    "pick": r"backend_\d+Backend_pick|affinity_\d+CookieAffinity_find",
    "response head: scan": r"head_scan_response",
    "response head: edit": r"edit_edit_response",
    "log line": r"log_\d+AccessLog_add",
}
"""The functions of each step (the ends of their names in C); none of a step calls another."""
WHOLE = "request, all of it"
"""Shown, but not compared: it includes periodic work, which increases on a busy machine."""
FEATURES = {
    "route": f"route, {ROUTES:,} routes",
    "pick": "pick, measured, affinity",
}
"""Steps that are also counted with all features, and their names then."""
LINE = re.compile(r"^\s*([\d,]+) \([ \d.]+%\)\s+(?:\S*:)?__pyx_f_(\w+)(?: \[.*)?$", re.MULTILINE)
TOTAL = re.compile(r"^\s*([\d,]+) .*PROGRAM TOTALS", re.MULTILINE)

Counts = Mapping[str, float]


def environment() -> dict[str, str]:
    """Return what counts depend on besides the source."""
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True, timeout=30)
    return {
        "compiler": compiler.stdout.splitlines()[0],
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "cython": version("Cython"),
    }


def command(setup: Setup) -> list[str]:
    """Write a site file and return the gateway's command under callgrind, which does not count yet."""
    # valgrind itself writes files when the process ends, and is asked for counts from outside.
    description = {**site(setup), "sandbox": False, "core_dumps": True}
    if os.geteuid() == 0:
        description["user"] = "root"  # callgrind_control must run as the same user
    path = setup.directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(description))
    output = f"--callgrind-out-file={setup.directory}/callgrind.%p"
    options = ("--tool=callgrind", "--trace-children=yes", "--instr-atstart=no", "-q", output)
    return ["valgrind", *options, sys.executable, "-m", "gateway", "run", str(path)]


# Under valgrind the order of sets and dicts must not differ from run to run.
COUNTED = Peer(GATEWAY.name, "valgrind", command, environment={"PYTHONHASHSEED": "0"})


def control(option: str, pid: int) -> None:
    """Send a command to the callgrind of a process. Raises FarmFailed."""
    try:
        subprocess.run(
            ["callgrind_control", *option.split(), str(pid)], capture_output=True, check=True, timeout=CONTROL_SECONDS
        )
    except subprocess.SubprocessError as error:
        raise FarmFailed(f"callgrind does not answer: {error}") from None


def worker(proxy: Running) -> int:
    """Return the pid of its worker. Raises FarmFailed."""
    log = (proxy.setup.directory / f"{proxy.name}.err").read_text()
    found = re.search(r"worker 0 started, pid (\d+)", log)
    if not found:
        raise FarmFailed(f"no worker started:\n{log}")
    return int(found[1])


def count(layout: Layout) -> Counts:
    """Return the instructions per request of each step, and of all of it. Raises FarmFailed, LoadFailed."""
    with farm([COUNTED], replace(layout, proxy_cores="0,1", load_cores="0,1")) as running:
        proxy = running.proxies[0]
        pid = worker(proxy)
        load = Load(connections=1, requests=REQUESTS)
        if layout.features:
            load = returning(load, proxy)
        if layout.qos:
            load = returning(load, proxy, SESSION)
        with running.generator.ready(load, proxy.setup.port) as ready:
            control("--instr=on", pid)
            control("--zero", pid)
            ready.go()
            control("--dump", pid)
        (dump,) = proxy.setup.directory.glob(f"callgrind.{pid}.*")
        annotate = ["callgrind_annotate", "--inclusive=yes", "--auto=no", "--threshold=100", str(dump)]
        text = subprocess.run(annotate, capture_output=True, text=True, check=True, timeout=60).stdout
    return parsed(text, REQUESTS)


def parsed(text: str, requests: int) -> Counts:
    """Return the counts per request, from what callgrind_annotate printed. Raises FarmFailed."""
    # A function can have several lines, one for each file that it has code of: the largest is the whole.
    functions: dict[str, int] = {}
    for number, name in LINE.findall(text):
        functions[name] = max(functions.get(name, 0), int(number.replace(",", "")))
    found = {}
    for step, pattern in STEPS.items():
        ends = re.compile(f"_\\d+(?:{pattern})$")
        parts = [number for name, number in functions.items() if ends.search(name)]
        if not parts:
            raise FarmFailed(f"no function is called {pattern}: has it a new name?")
        found[step] = sum(parts) / requests
    total = TOTAL.search(text)
    if not total:
        raise FarmFailed("callgrind_annotate says no total")
    found[WHOLE] = int(total[1].replace(",", "")) / requests
    return found


def counts() -> Counts:
    """Count everything. Raises FarmFailed, LoadFailed."""
    found = dict(count(Layout()))
    everything = count(Layout(routes=ROUTES, features=True))
    return found | {name: everything[step] for step, name in FEATURES.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A step's count beside the baseline's; None: the baseline does not have it."""

    step: str
    count: float
    before: float | None

    @property
    def more(self) -> bool:
        """Whether the increase is too large."""
        return self.step != WHOLE and self.before is not None and self.count > self.before * (1 + TOLERANCE)


def compare(found: Counts, before: Counts) -> list[Comparison]:
    """Return every step beside the baseline."""
    return [Comparison(step, number, before.get(step)) for step, number in found.items()]


def show(rows: list[Comparison]) -> Table:
    """Return the table in readable form."""
    table = Table("step", title="Instructions per request")
    for title in ("counted", "baseline", "change"):
        table.add_column(title, justify="right")
    table.add_column("")
    for row in rows:
        before = f"{row.before:,.0f}" if row.before else ""
        change = f"{row.count / row.before - 1:+.1%}" if row.before else ""
        table.add_row(row.step, f"{row.count:,.0f}", before, change, "TOO MUCH" if row.more else "")
    return table


@click.command()
@click.option("--keep", is_flag=True, help="Make what is counted now the baseline.")
def main(keep: bool) -> None:  # noqa: FBT001
    """Count instructions per request; exit status 1 if a step makes over 5 % more than the baseline."""
    here = environment()
    baseline: dict[str, Any] = {"environment": here, "instructions": {}}
    if BASELINE.exists():
        baseline = json.loads(BASELINE.read_text())
    found = counts()
    rows = compare(found, baseline["instructions"])
    Console().print(show(rows))
    same = baseline["environment"] == here
    if not same:
        click.echo(f"the baseline is of another environment, nothing is judged: {baseline['environment']}")
    if keep:
        rounded = {step: round(number) for step, number in found.items()}
        BASELINE.write_text(json.dumps({"environment": here, "instructions": rounded}, indent=1) + "\n")
    elif same and any(row.more for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
