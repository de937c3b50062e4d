"""The interface of a proxy in the benchmark: its configuration, start and version."""

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEARCH = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
VERSION_SECONDS = 30.0
SERVER_NAME = "localhost"
"""In the certificate of servers that speak TLS."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings that all proxies share: files go into `directory`, servers are "address:port"."""

    directory: Path
    port: int
    tls_port: int
    servers: tuple[str, ...]
    cert: Path
    key: Path
    workers: int = 1
    cores: str = "1"
    """As for taskset."""
    routes: int = 0
    """Of the gateway, before the one that holds."""
    features: bool = False
    """All features of the gateway in the data path, not only those that every proxy has."""
    qos: bool = False
    """Four classes, a rate for each source, and sessions."""
    ca: Path | None = None
    """That of the servers, which speak TLS then."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One proxy: `command` writes its configuration and says how to run it."""

    name: str
    program: str
    command: Callable[[Setup], list[str]]
    version: tuple[str, ...] = ()
    tls: bool = True
    large_only: bool = False
    """It is configured for large bodies, and takes part only in those cases."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def is_installed(self) -> bool:
        """Tell whether it can run here."""
        return shutil.which(self.program, path=SEARCH) is not None

    def release(self) -> str:
        """Return the first line with a digit of what it says about its version, without where it is installed."""
        if not self.version:
            return ""
        done = subprocess.run(
            [self.program, *self.version],
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=True,
            env={**os.environ, "PATH": SEARCH},
            cwd=ROOT,
        )
        lines = (done.stdout + done.stderr).splitlines()
        said = next((line.strip() for line in lines if any(letter.isdigit() for letter in line)), "")
        return re.sub(r"\S*/(?=\S+\s+version)", "", said)

    def start(self, setup: Setup) -> "subprocess.Popen[bytes]":
        """Run it. Its output goes to NAME.out and NAME.err in the directory."""
        command = ["taskset", "-c", setup.cores, *self.command(setup)]
        with (
            (setup.directory / f"{self.name}.out").open("wb") as out,
            (setup.directory / f"{self.name}.err").open("wb") as err,
        ):
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PATH": SEARCH, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )


def indented(lines: list[str], by: int) -> str:
    """Return lines joined for a template whose first one is in place already."""
    return ("\n" + " " * by).join(lines)
