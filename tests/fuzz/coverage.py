"""Coverage of compiled modules, if they are built for it: `python -m tests.fuzz.coverage DIRECTORY` builds them there.

gcc puts a call into each branch (-fsanitize-coverage=trace-pc); coverage.c is what is called, and counts edges by their
addresses. It is preloaded, so that it is there before the first of the modules:

    LD_PRELOAD=DIRECTORY/coverage.so PYTHONPATH=DIRECTORY:. python -P -m tests.fuzz.run 600 connections

AddressSanitizer may watch at the same time: SANITIZE=address,undefined for the build, and its library before ours for
the run (`gcc -print-file-name=libasan.so`), with ASAN_OPTIONS=detect_leaks=0.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Hashable
from pathlib import Path

from tests.fuzz.engine import Target


def guided(target: Target) -> Target:
    """Return a target that also tells when new edges were taken; the same one if nothing counts them."""
    try:
        library = ctypes.CDLL(None)
        clear, new = library.coverage_clear, library.coverage_new
    except AttributeError:
        return target
    kept = 0

    def run(data: bytes) -> Hashable:
        nonlocal kept
        clear()
        found = target(data)
        kept += new() > 0
        return frozenset({kept, *(found if isinstance(found, frozenset) else {found})})

    return run


def edges() -> int | None:
    """How many edges were taken so far; None if nothing counts them."""
    try:
        return int(ctypes.CDLL(None).coverage_cells())
    except AttributeError:
        return None


def build(directory: Path) -> None:
    """Build the package with coverage into `directory`, beside coverage.so; the tree stays as it is."""
    directory.mkdir(parents=True, exist_ok=True)
    here = Path(__file__)
    compiler = shutil.which("gcc") or "cc"
    subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", directory / "coverage.so", here.with_suffix(".c")], check=True
    )
    flags = "-fsanitize-coverage=trace-pc"
    if sanitize := os.environ.get("SANITIZE"):
        flags += f" -g -fsanitize={sanitize} -fno-sanitize-recover=undefined"
    root = here.parents[2]
    subprocess.run(
        [
            sys.executable,
            "setup.py",
            "--quiet",
            "build",
            "--build-lib",
            directory.resolve(),
            "--build-temp",
            (directory / "tmp").resolve(),
        ],
        check=True,
        cwd=root,
        env=os.environ | {"CFLAGS": flags, "LDSHARED": f"{compiler} -shared {flags}", "CC": compiler},
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]))
