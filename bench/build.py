"""Compiles the C programs of the benchmark: origin, load and floor."""

import subprocess
from pathlib import Path

LIBRARIES = {"load": ("-lssl", "-lcrypto")}


def build(name: str, directory: Path) -> str:
    """Compile bench/NAME.c into `directory` and return the path of the program. Raises CalledProcessError."""
    program = directory / name
    if not program.exists():
        source = Path(__file__).with_name(f"{name}.c")
        command = ["cc", "-O2", "-o", str(program), str(source), *LIBRARIES.get(name, ())]
        subprocess.run(command, check=True, timeout=60)
    return str(program)
