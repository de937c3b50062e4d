"""The gateway beside its peers: everything that is measured, in one run.

    python -m bench.run [--quick]

Every proxy has processor 1 to itself, load and origins share processor 0. All run at once and are measured in
turns, A B C, A B C, so that what else happens on the machine hits them alike; medians of the rounds count.
"""

import click
from rich.console import Console

from bench.cases import CASES
from bench.farm import FarmFailed, Layout, farm, processors, refuse_busy
from bench.figure import Figures
from bench.load import LoadFailed
from bench.peers.all import CORE, PEERS
from bench.report import show
from bench.rounds import measure

WIDTH = 110
"""Of the tables, in characters."""


@click.command()
@click.option("--quick", is_flag=True, help="The short form: fewer cases, peers and rounds, under three minutes.")
@click.option("--rounds", type=int, help="Turns of every proxy; the median counts. [default: 5, quick: 3]")
@click.option("--seconds", type=float, help="Length of a turn. [default: 1.5, quick: 1]")
@click.option("--peers", "names", default="", help="Names, separated by commas; the gateway always takes part.")
@click.option("--cases", "wanted", default="", help="Only cases whose names contain one of these, by commas.")
def main(quick: bool, rounds: int | None, seconds: float | None, names: str, wanted: str) -> None:  # noqa: FBT001
    """Measure the gateway beside its peers."""
    if processors() < 2:
        raise click.ClickException("needs two processors: one for the proxy, one for load and origins")
    chosen = [peer for peer in (CORE if quick else PEERS) if not names or peer.name in ("gateway", *names.split(","))]
    peers = [peer for peer in chosen if peer.is_installed()]
    for peer in chosen:
        if peer not in peers:
            click.echo(f"{peer.name}: not installed, left out", err=True)
    parts = [part.strip() for part in wanted.split(",")]
    cases = [case for case in CASES if any(part in case.name for part in parts) and (wanted or case.quick or not quick)]
    try:
        with farm(peers, Layout()) as running:
            refuse_busy(running.proxies)
            figures = Figures(
                measure(running, cases, rounds or (3 if quick else 5), seconds or (1.0 if quick else 1.5))
            )
    except (FarmFailed, LoadFailed) as error:
        raise click.ClickException(str(error)) from None
    Console(width=WIDTH).print(show(figures))


if __name__ == "__main__":
    main()
