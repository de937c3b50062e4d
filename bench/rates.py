"""The rate limiter alone: how long a check takes, and how many keys a table remembers.

    python -m bench.rates [--mib 64]

Each figure is of one process on one core. A key that is in the cache costs the arithmetic; a key that is not, one miss.
"""

import mmap
import os
import time
from collections.abc import Callable

import click
from rich.console import Console
from rich.table import Table

from qos.rates import RateTable

CHECKS = 1_000_000
NOW = 10**15
SECOND = 10**9


def per_check(storm: Callable[[], object]) -> float:
    """Return the ns of processor time that each of CHECKS takes."""
    began = time.process_time_ns()
    storm()
    return (time.process_time_ns() - began) / CHECKS


def timings(mib: int) -> list[tuple[str, float]]:
    """Return the ns of a check, by what it meets."""

    def table() -> RateTable:
        return RateTable(mmap.mmap(-1, mib << 20), os.urandom(16))

    one, many = table(), table()
    return [
        ("one key, admitted", per_check(lambda: one.storm(7, CHECKS, 1e5, CHECKS, NOW))),
        ("one key, refused", per_check(lambda: one.storm(8, CHECKS, 1.0, 1, NOW))),
        ("as many new keys, memory fresh", per_check(lambda: many.storm(1, CHECKS, 1.0, 1, NOW, 1))),
        ("the same keys, refused", per_check(lambda: many.storm(1, CHECKS, 1.0, 1, NOW, 1))),
        ("the same keys, admitted again", per_check(lambda: many.storm(1, CHECKS, 1.0, 1, NOW + 2 * SECOND, 1))),
    ]


def forgotten(mib: int, share: float) -> float:
    """Return the share of keys that got a second request too early, with so much of the table in debt."""
    table = RateTable(mmap.mmap(-1, mib << 20), os.urandom(16))
    keys = round(table.keys * share)
    table.storm(1, keys, 1.0, 1, NOW, 1)
    return table.storm(1, keys, 1.0, 1, NOW, 1) / keys


@click.command()
@click.option("--mib", default=64, show_default=True, help="Size of the table; a power of two.")
def main(mib: int) -> None:
    """Measure the rate limiter."""
    checks = Table("check", title=f"Rate limiter, {mib} MiB, {(mib << 20) // 8:,} keys")
    for title in ("ns", "per second"):
        checks.add_column(title, justify="right")
    for name, took in timings(mib):
        checks.add_row(name, f"{took:.1f}", f"{1e9 / took:,.0f}")
    memory = Table("keys in debt", "keys", "forgotten early", title="Capacity")
    for share in (1 / 8, 1 / 4, 1 / 2, 1.0):
        memory.add_row(f"{share:.0%}", f"{round((mib << 20) / 8 * share):,}", f"{forgotten(mib, share):.3%}")
    console = Console()
    console.print(checks)
    console.print(memory)


if __name__ == "__main__":
    main()
