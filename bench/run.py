"""The gateway beside its peers: everything that is measured, in one run.

    python -m bench.run [--quick]

Every proxy has processor 1 to itself, load and origins share processor 0. All run at once and are measured in
turns, A B C, A B C, so that what else happens on the machine hits them alike; medians of the rounds count.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console

from bench import admission, breadth, calls, features, http2, idle, latency, reload, scaling, start
from bench.cases import CASES, SMALL, Case
from bench.farm import FarmFailed, Layout, farm, processors, refuse_busy
from bench.figure import Figure, Figures
from bench.goals import verdicts
from bench.load import LoadFailed
from bench.peers.all import CORE, PEERS
from bench.peers.peer import Peer
from bench.record import RESULTS, keep
from bench.report import tables
from bench.rounds import Turns, measure, turn

WARM = 0.2
"""Seconds of load before a round: what a proxy allocates once is allocated then."""
WIDTH = 120
"""Of the tables, in characters."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured: `peers` in the cases, `core` in everything else."""

    peers: Sequence[Peer]
    core: Sequence[Peer]
    cases: Sequence[Case]
    rounds: int
    seconds: float


def measure_cases(plan: Plan) -> list[Figure]:
    """Measure the cases at full load."""
    turns = Turns()
    for _ in range(plan.rounds):
        # New processes for each: where in memory a buffer happens to lie makes a large body half as dear again.
        with farm(plan.peers, Layout(direct=True)) as running:
            refuse_busy(running.proxies)
            for proxy in running.proxies:
                turn(running, proxy, replace(SMALL.load, seconds=WARM))
            measure(running, plan.cases, plan.seconds, turns)
    return turns.figures()


def measure_latency(plan: Plan) -> list[Figure]:
    """Measure latencies at half load."""
    with farm(plan.peers, Layout(direct=True)) as running:
        refuse_busy(running.proxies)
        return latency.measure(running, plan.rounds, 2 * plan.seconds)


def measure_calls(plan: Plan) -> list[Figure]:
    """Count data system calls."""
    with farm([peer for peer in plan.peers if not peer.large_only], Layout()) as running:
        return calls.measure(running)


PARTS: dict[str, Callable[[Plan], list[Figure]]] = {
    "cases": measure_cases,
    "latency": measure_latency,
    "http2": lambda plan: http2.measure(plan.core, plan.rounds, plan.seconds),
    "calls": measure_calls,
    "memory": lambda plan: idle.measure_memory(plan.core),
    "idle": lambda plan: idle.measure_beside(plan.core, plan.rounds, plan.seconds),
    "features": lambda plan: features.measure(plan.rounds, plan.seconds),
    "qos": lambda plan: admission.measure(plan.rounds, plan.seconds),
    "scaling": lambda plan: scaling.measure(plan.core, plan.rounds, plan.seconds),
    "connections": lambda plan: breadth.measure_connections(plan.core, plan.rounds, plan.seconds),
    "servers": lambda plan: breadth.measure_servers(plan.core, plan.rounds, plan.seconds),
    "start": lambda plan: start.measure(plan.core, plan.rounds),
    "reload": lambda plan: reload.measure(plan.rounds),
}
QUICK = ("cases",)


def installed(wanted: Sequence[Peer], names: str) -> list[Peer]:
    """Return the proxies that take part: the gateway, and those named (all if none is) that are installed."""
    chosen = [peer for peer in wanted if not names or peer.name in ("gateway", *names.split(","))]
    for peer in chosen:
        if not peer.is_installed():
            click.echo(f"{peer.name}: not installed, left out", err=True)
    return [peer for peer in chosen if peer.is_installed()]


@click.command()
@click.option("--quick", is_flag=True, help="The short form: fewer cases, peers and rounds, under three minutes.")
@click.option("--rounds", type=click.IntRange(1), help="Turns of every proxy; the median counts. [5; quick: 3]")
@click.option("--seconds", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Length of a turn.")
@click.option("--peers", "names", default="", help="Names, separated by commas; the gateway always takes part.")
@click.option("--cases", "wanted", default="", help="Only cases whose names contain one of these, by commas.")
@click.option("--parts", default="", help=f"Only these, by commas: {', '.join(PARTS)}.")
@click.option("--keep", "directory", type=click.Path(path_type=Path), help="Where results are kept.")
def main(  # noqa: PLR0913, PLR0917 - the options
    quick: bool,  # noqa: FBT001
    rounds: int | None,
    seconds: float,
    names: str,
    wanted: str,
    parts: str,
    directory: Path | None,
) -> None:
    """Measure the gateway beside its peers. Results of a whole run are kept in bench/results."""
    if processors() < 2:
        raise click.ClickException("needs two processors: one for the proxy, one for load and origins")
    chosen = [part.strip() for part in parts.split(",")] if parts else QUICK if quick else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        raise click.UsageError(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    words = [word.strip() for word in wanted.split(",")]
    plan = Plan(
        installed(CORE if quick else PEERS, names),
        [peer for peer in installed(CORE, names) if not peer.large_only],
        [case for case in CASES if any(word in case.name for word in words) and (wanted or case.quick or not quick)],
        rounds or (3 if quick else 5),
        seconds,
    )
    figures = Figures()
    began = time.monotonic()
    for part in chosen:
        try:
            for figure in PARTS[part](plan):
                figures.add(figure)
        except (FarmFailed, LoadFailed) as error:
            # What has been measured is worth keeping.
            click.echo(f"{part}: {error}", err=True)
        click.echo(f"{time.monotonic() - began:5.0f} s  {part}", err=True)
    found = verdicts(figures)
    console = Console(file=sys.stdout, width=WIDTH)
    for table in tables(figures, found):
        console.print(table)
    whole = not (quick or names or wanted or parts)
    if place := directory or (RESULTS if whole else None):
        conditions = {"rounds": plan.rounds, "seconds": seconds, "parts": list(chosen)}
        keep(place, conditions, {peer.name: peer.release() for peer in plan.peers}, figures, found)


if __name__ == "__main__":
    main()
