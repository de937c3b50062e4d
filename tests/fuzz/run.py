"""Fuzz the parsers: `python -m tests.fuzz.run [SECONDS] [TARGET …]`, all of them for so long altogether (60)."""

import os
import sys
from pathlib import Path

from tests.fuzz.engine import Finding, Fuzzer
from tests.fuzz.targets import TARGETS, WORDS

CORPUS = Path(__file__).with_name("corpus")


def corpus(name: str) -> list[bytes]:
    """Return the inputs to start from: each file of the target's directory, by name."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def main(seconds: float, names: list[str], seed: int) -> int:
    """Fuzz; return the exit status. A finding is added to the corpus, so that it is tried first from then on."""
    for name in names:
        fuzzer = Fuzzer(TARGETS[name], WORDS[name], seed)
        try:
            behaviours = fuzzer.run(corpus(name), seconds / len(names))
        except Finding as finding:
            path = CORPUS / name / f"found-{seed:x}-{fuzzer.runs}"
            path.write_bytes(finding.data)
            sys.stdout.write(f"{name}: {finding}\nwritten to {path}\n")
            return 1
        sys.stdout.write(f"{name}: {fuzzer.runs} inputs, {behaviours} behaviours, seed {seed}\n")
    return 0


if __name__ == "__main__":
    sys.exit(
        main(
            float(sys.argv[1]) if len(sys.argv) > 1 else 60.0,
            sys.argv[2:] or list(TARGETS),
            int.from_bytes(os.urandom(4)),
        )
    )
