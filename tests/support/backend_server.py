"""A back-end server of a test: the scriptable origin in a process of its own, to be killed and restarted."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.origin import COUNTERS
from tests.support.waiting import answers, eventually, free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Received:
    """A request as the server got it; `body` with its framing and cut at 1 MiB, `size` the decoded bytes."""

    connection: int
    head: bytes
    body: bytes
    size: int


class BackendServer:
    """`name` on a port of 127.0.0.1 that stays the same over `kill` and `start`; see origin.py."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.port = free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """As a site file wants it."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id. Raises AssertionError if the server is not running."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def start(self) -> Self:
        """Run, and return when it accepts connections. Raises AssertionError."""
        log = self._directory / f"{self.name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.origin", self.name, "127.0.0.1", str(self.port), "."],
                cwd=self._directory,
                env={"PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )
        self._process = process
        eventually(lambda: process.poll() is not None or answers("127.0.0.1", self.port), f"{self.name} to accept")
        assert process.poll() is None, f"{self.name} ended at once: {log.read_text()}"
        return self

    def kill(self) -> None:
        """SIGKILL; its port refuses connections from now on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    @property
    def count(self) -> int:
        """How many request heads it has seen, over all its lives."""
        return self._counters()[1]

    @property
    def connections(self) -> int:
        """How many connections it has accepted, over all its lives (`start` makes some, to look)."""
        return self._counters()[0]

    def _counters(self) -> tuple[int, int]:
        connections, requests = COUNTERS.unpack((self._directory / f"{self.name}.count").read_bytes())
        return int(connections), int(requests)

    def requests(self) -> list[Received]:
        """Return what it has received, in order: the first 2000 of each life."""
        received = []
        for line in (self._directory / f"{self.name}.requests").read_text().splitlines():
            item = json.loads(line)
            head, body = (item[key].encode("latin-1") for key in ("head", "body"))
            received.append(Received(item["connection"], head, body, item["size"]))
        return received

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
