"""The load generator (load.c) as an object: the requests and their results."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from bench.build import build

BROWSER = (  # with Host, which the generator sends: 13
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    'Sec-CH-UA: "Chromium";v="131", "Not_A Brand";v="24"',
    "Sec-CH-UA-Mobile: ?0",
    'Sec-CH-UA-Platform: "Linux"',
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Referer: http://www.example.com/catalogue/spring",
    "Cookie: session=8d7f3c1e5ab94b0f; theme=dark; consent=1",
)


class LoadFailed(Exception):
    """The generator failed; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a run: counts, `seconds` until the last answer, latencies in microseconds."""

    requests: int
    seconds: float
    errors: int
    connects: int
    handshakes: int
    resumed: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    longest: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """The requests: see load.c for the options. `requests` instead of `seconds` if it is not 0."""

    path: str = "/bytes/130"
    connections: int = 64
    seconds: float = 1.0
    requests: int = 0
    rate: float = 0.0
    tls: bool = False
    fresh: bool = False
    resume: bool = False
    upload: int = 0
    message: int = 0
    addresses: int = 1
    fields: tuple[str, ...] = BROWSER

    def at(self, rate: float, seconds: float) -> Self:
        """Return the same load at a constant rate, in requests per second."""
        return replace(self, rate=rate, seconds=seconds, requests=0)

    def options(self) -> list[str]:
        """Return the generator's options."""
        found = [f"-c{self.connections}", f"-d{self.seconds}", f"-a{self.addresses}"]
        for flag, value in (("n", self.requests), ("r", self.rate), ("u", self.upload), ("w", self.message)):
            if value:
                found.append(f"-{flag}{value}")
        found += [f"-{flag}" for flag, wanted in (("t", self.tls), ("f", self.fresh), ("s", self.resume)) if wanted]
        for field in self.fields:
            found += ["-h", field]
        return found


class Generator:
    """Runs loads from the processors `cores` (as for taskset)."""

    def __init__(self, directory: Path, cores: str) -> None:
        self._program = build("load", directory)
        self.cores = cores

    @contextmanager
    def ready(self, load: Load, port: int, *options: str) -> Iterator["Ready"]:
        """Connect to the local `port` and make a request on each connection; inside the block, it can go.

        Raises LoadFailed.
        """
        command = ["taskset", "-c", self.cores, self._program, *load.options(), *options, str(port), load.path]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                run = Ready(process)
                run.line()
                yield run
            finally:
                process.kill()

    def run(self, load: Load, port: int) -> Outcome:
        """Run a load from beginning to end. Raises LoadFailed."""
        with self.ready(load, port) as run:
            return run.go()


class Ready:
    """A generator with established connections."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def line(self) -> str:
        """Return its next line of output. Raises LoadFailed."""
        assert self._process.stdout  # noqa: S101 - it is a pipe
        text = self._process.stdout.readline()
        if not text:
            _, why = self._process.communicate(timeout=10)
            raise LoadFailed(why.strip() or "the load generator ended")
        return text

    def go(self) -> Outcome:
        """Make the requests, wait for all of them, and return the results. Raises LoadFailed."""
        self.start()
        return self.finish()

    def start(self) -> None:
        """Begin; `finish` waits."""
        assert self._process.stdin  # noqa: S101 - it is a pipe
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def finish(self) -> Outcome:
        """Wait for the end and return the results. Raises LoadFailed."""
        return Outcome(**json.loads(self.line()))
