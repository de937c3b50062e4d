"""Instructions of the name server for a response, without sockets, counted by callgrind.

    python -m bench.datagrams

The same queries make the same instructions whatever else the machine does. What is counted is all that happens between
a batch of received datagrams and the batch of responses: reading, the lookup, limits, and writing.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import dns.message

from gateway.config.dns import Dns
from gateway.dns.responder import Responder
from gateway.dns.table import Table

BATCHES: Final = 20
BATCH: Final = 64
"""Queries of a batch."""
TOGGLE: Final = "--toggle-collect=*Responder_answer_all*"
"""What is counted."""
TOTAL: Final = re.compile(r"^totals: (\d+)", re.MULTILINE)
MANY: Final = 100_000
SITES: Final = {"mel": "192.0.2.10", "syd": "198.51.100.10", "dub": "203.0.113.10"}


def fixed(names: int) -> tuple[dict[str, Any], list[str]]:
    """A zone with so many addresses, and the names to ask for."""
    records = [f"n{i} A 192.0.2.{i % 250 + 1}" for i in range(names)]
    return {"records": records}, [f"n{i * 7919 % names}.bench.example" for i in range(BATCHES * BATCH)]


def _balanced() -> tuple[dict[str, Any], list[str]]:
    return {"sites": SITES}, ["bench.example"] * (BATCHES * BATCH)


def _absent() -> tuple[dict[str, Any], list[str]]:
    return {"records": ["a A 192.0.2.1"]}, [f"x{i}.bench.example" for i in range(BATCHES * BATCH)]


CASES: Final[dict[str, Callable[[], tuple[dict[str, Any], list[str]]]]] = {
    "a name of 10": lambda: fixed(10),
    "a name of 100,000": lambda: fixed(MANY),
    "a balanced name": _balanced,
    "a name that does not exist": _absent,
}


def drive(case: str) -> None:
    """Answer the queries of a case twice: callgrind counts from the second time on."""
    zone, names = CASES[case]()
    model = Dns.model_validate({"listen": "127.0.0.1:53", "zones": {"bench.example": {"ns": "ns.example", **zone}}})
    responder = Responder(Table.of(model, {}, serial=1).find, bytes(16))
    queries = [dns.message.make_query(name, "A", use_edns=0).to_wire() for name in names]
    answered = 0
    for number, batch in enumerate((*_batches(queries), *_batches(queries))):
        if number == BATCHES:
            control("--instr=on")
        answered += responder.answer_batch(batch)
    control("--instr=off")
    if answered != 2 * len(queries):
        raise RuntimeError(f"{answered} responses")


def control(option: str) -> None:
    """Have the callgrind that runs this process set its counts to zero, or write them."""
    subprocess.run(["callgrind_control", option, str(_pid())], check=True, capture_output=True, timeout=60)


def _pid() -> int:
    return int(Path("/proc/self/stat").read_text().split()[0])


def _batches(queries: list[bytes]) -> Iterator[list[bytes]]:
    left = iter(queries)
    while batch := list(islice(left, BATCH)):
        yield batch


def count(case: str) -> float:
    """Instructions per response."""
    with tempfile.TemporaryDirectory() as made:
        output = Path(made) / "callgrind"
        words = ["valgrind", "--tool=callgrind", "-q", "--instr-atstart=no", TOGGLE]
        command = [*words, f"--callgrind-out-file={output}", sys.executable, "-m", "bench.datagrams", "--drive", case]
        subprocess.run(command, check=True, timeout=600)
        found = [TOTAL.search(path.read_text()) for path in Path(made).iterdir()]
        return max(int(one[1]) for one in found if one) / (BATCHES * BATCH)


@click.command()
@click.option("--drive", "case", hidden=True)
def main(case: str | None) -> None:
    """Count instructions per response."""
    if case is not None:
        drive(case)
        return
    for name in CASES:
        click.echo(f"{name:<30}{count(name):>10,.0f}")


if __name__ == "__main__":
    main()
