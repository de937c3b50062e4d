"""Programs from elsewhere that tests run beside the gateway: wrk, curl, nginx, haproxy."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def needs(*names: str) -> pytest.MarkDecorator:
    """Return a mark that leaves a test out, and says so, where one of those programs is missing."""
    missing = [name for name in names if shutil.which(name, path=SEARCH) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def needs_header(name: str, package: str) -> pytest.MarkDecorator:
    """Return a mark that leaves a test out, and says so, where a C header is missing; `package` has it."""
    return pytest.mark.skipif(not Path("/usr/include", name).exists(), reason=f"not installed: {package}")


def run(*command: str, seconds: float = 30.0) -> str:
    """Return the standard output of `command`. Raises CalledProcessError, TimeoutExpired."""
    environment = {**os.environ, "PATH": SEARCH}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds, env=environment)
    return done.stdout


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
