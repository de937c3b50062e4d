"""Programs from elsewhere that tests run beside the gateway: wrk, curl, nginx, haproxy."""

import os
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support import hardened
from tests.support.ending import end_process
from tests.support.waiting import eventually

SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def needs(*names: str) -> pytest.MarkDecorator:
    """Return a mark that leaves a test out, and says so, where one of those programs is missing."""
    missing = [name for name in names if shutil.which(name, path=SEARCH) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def needs_header(name: str, package: str) -> pytest.MarkDecorator:
    """Return a mark that leaves a test out, and says so, where a C header is missing; `package` has it."""
    return pytest.mark.skipif(not Path("/usr/include", name).exists(), reason=f"not installed: {package}")


def run(*command: str, seconds: float = 30.0) -> str:
    """Return the standard output of `command`, perhaps one of ours. Raises CalledProcessError, TimeoutExpired."""
    own = hardened.environment() if command[0] == sys.executable else os.environ
    environment = {**own, "PATH": SEARCH}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds, env=environment)
    return done.stdout


def start(command: Sequence[str], output: Path, accepts: Callable[[], bool]) -> "subprocess.Popen[bytes]":
    """Run a server that writes to the file `output`; return when `accepts()`. Raises AssertionError with what it said."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, "PATH": SEARCH}
        )
    try:
        eventually(lambda: process.poll() is not None or accepts(), f"{command[0]} to accept", 30.0)
        assert process.poll() is None, f"{command[0]} ended at once: {output.read_text()}"
    except BaseException:
        end_process(process, 5.0)
        raise
    return process


class Served(ABC):
    """A server from elsewhere, which runs as long as the block that it is used in."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _begin(self) -> "subprocess.Popen[bytes]":
        """Start it, in the foreground."""

    def __enter__(self) -> Self:
        self._process = self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        end_process(self._process, 10.0)


@dataclass(frozen=True, slots=True)
class Wrk:
    """What wrk counted: `failed` are statuses of 400 and up, `errors` sockets that broke or timed out."""

    requests: int
    failed: int
    errors: int


def wrk(url: str, seconds: int = 2, connections: int = 16, *options: str) -> Wrk:
    """Run wrk, one thread, against a local URL. Raises CalledProcessError, TimeoutExpired."""
    text = run("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *options, url, seconds=seconds + 15)

    def number(pattern: str) -> int:
        return sum(int(found) for group in re.findall(pattern, text) for found in re.findall(r"\d+", group))

    return Wrk(
        number(r"(\d+) requests in"),
        number(r"Non-2xx or 3xx responses: (\d+)"),
        number(r"Socket errors: (.*)"),
    )
