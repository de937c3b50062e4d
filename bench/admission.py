"""The price of quality of service for one request: four classes, a rate for each source, and sessions.

    python -m bench.admission [ROUNDS]

Prints microseconds of CPU per request without and with it, turn by turn beside each other, and instructions.
"""

from dataclasses import replace

import click

from bench.cases import SMALL
from bench.farm import Layout, farm
from bench.features import returning
from bench.figure import UNITS, Figure
from bench.micro import WHOLE, count
from bench.peers.gateway import CLASSES, GATEWAY, SESSION
from bench.rounds import Turns, turn

WITHOUT = f"{SMALL.name}, without qos"
WITH = f"{SMALL.name}, {len(CLASSES)} classes + a rate per source + sessions"


def measure(rounds: int, seconds: float) -> list[Figure]:
    """Return CPU and rate of the gateway, without and with quality of service. Raises FarmFailed."""
    turns = Turns()
    load = replace(SMALL.load, seconds=seconds)
    with farm([GATEWAY], Layout()) as plain, farm([GATEWAY], Layout(qos=True)) as full:
        proxy = full.proxies[0]
        known = returning(load, proxy, SESSION)
        for _ in range(rounds):
            # The same request, with the same longer Cookie field, to both.
            turns.add(WITHOUT, GATEWAY.name, turn(plain, plain.proxies[0], known).metrics())
            turns.add(WITH, GATEWAY.name, turn(full, proxy, known).metrics())
    return turns.figures()


@click.command()
@click.argument("rounds", type=click.IntRange(1), default=11)
def main(rounds: int) -> None:
    """Measure and print."""
    for figure in measure(rounds, 1.0):
        if figure.metric in ("cpu", "user"):
            low, high = figure.quartiles
            click.echo(f"{figure.case}: {figure.metric} {figure.median:.2f} ({low:.2f} to {high:.2f}) {UNITS['cpu']}")
    without, with_qos = (count(layout)[WHOLE] for layout in (Layout(), Layout(qos=True)))
    click.echo(f"instructions: {without:.0f} without, {with_qos:.0f} with")


if __name__ == "__main__":
    main()
