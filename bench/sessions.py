"""The table of sessions alone: a request of a session, a refresh in a long queue, and the census of both.

    python -m bench.sessions [--waiting 1000000]

Of one process on one core, through the tests' entrance, which makes a tuple of each ticket.
"""

import mmap
import os
import resource
import time
from collections.abc import Callable

import click

from qos.sessions import SessionTable, size

NOW = 10_000.0
TIMES = 100_000


def resident() -> int:
    """KiB of this process, shared memory included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def each(times: int, operation: Callable[[int], object]) -> float:
    """Return the ns of processor time of each."""
    began = time.process_time_ns()
    for i in range(times):
        operation(i)
    return (time.process_time_ns() - began) / times


@click.command()
@click.option("--waiting", default=1_000_000, help="Tickets in the queue.")
def main(waiting: int) -> None:
    """Print the figures."""
    table = SessionTable(mmap.mmap(-1, size()), os.urandom(16))
    most = 2000
    _, live, _ = table.ask(None, NOW, most=most)
    before = resident()
    for _ in range(most - 1):
        table.ask(None, NOW, most=most)
    _, first, _ = table.ask(None, NOW, most=most, places=waiting)
    for _ in range(waiting - 1):
        table.ask(None, NOW, most=most, places=waiting)
    kind, start, own, stamp = first or ("none", 0, 0, 0)
    click.echo(f"memory: {(resident() - before) / 1024:.1f} MiB for {waiting} tickets")
    sessions = each(TIMES, lambda _: table.ask(live, NOW + 0.1, most=most))
    step = waiting // TIMES or 1
    refresh = each(
        TIMES, lambda i: table.ask((kind, start + i * step % waiting, own, stamp), NOW + 0.1, most=most, places=waiting)
    )
    census = each(20, lambda _: table.census(NOW + 0.1, most=most))
    click.echo(
        f"a request of a session: {sessions:.0f} ns; a refresh: {refresh:.0f} ns; a census: {census / 1e6:.2f} ms"
    )


if __name__ == "__main__":
    main()
