"""Writes the files in lock/: every package that the environment installs, by version and by the hashes of its files.

    python .ci/lock.py UV

The versions are those of constraints.txt. `UV` is the program of https://docs.astral.sh/uv/, which asks the index that
it is set to for the hashes of all files of a release, so that the lock is the same for every machine.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = "setuptools\nCython\n"
HEADER = "# Written by `make lock` from pyproject.toml and constraints.txt.\n"
LOCKS = {
    "build": ["-"],
    "run": ["-", "pyproject.toml", "--extra", "otlp"],
    "test": ["-", "pyproject.toml", "--extra", "test"],
}
"""Name of the file, and what it is made from besides BUILD on standard input."""


def lock(uv, name):
    """Return the lock of that name. Raises CalledProcessError."""
    command = [uv, "pip", "compile", *LOCKS[name], "--constraint", "constraints.txt", "--generate-hashes"]
    command += ["--universal", "--python-version", "3.11", "--no-header", "--no-annotate", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, input=BUILD, check=True, stdout=subprocess.PIPE, text=True)
    return HEADER + done.stdout


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for lock_name in LOCKS:
        (ROOT / "lock" / f"{lock_name}.txt").write_text(lock(sys.argv[1], lock_name))
