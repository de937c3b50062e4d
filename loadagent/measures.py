"""Load values of the application: numbers that a program prints or a URL returns, measured periodically."""

import asyncio
import contextlib
import json
import logging
import math
import os
import shlex
import signal
from collections.abc import Awaitable, Callable

from loadagent import http_get
from loadagent.log_throttle import LogThrottle

TIMEOUT = 5.0  # seconds for one measurement
MAX_BYTES = 4096  # of an answer

_log = logging.getLogger("loadagent")


class MeasureError(Exception):
    """The measurement gave no number."""


class Measure:
    """Takes one measurement every `every` seconds and keeps the last value, None while it fails.

    A failure discards the value, because a stale number would be trusted: the metric is then left out of the score.
    """

    def __init__(self, name: str, take: Callable[[], Awaitable[float]], every: float) -> None:
        self.name = name
        self.value: float | None = None
        self._take = take
        self._every = every
        self._throttle = LogThrottle(period=600.0)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(self._every)

    async def once(self) -> None:
        """Measure now; a failure is logged, repeats of it at most every ten minutes."""
        try:
            async with asyncio.timeout(TIMEOUT):
                self.value = await self._take()
        except (MeasureError, OSError) as error:
            self.value = None
            if self._throttle.ask(self.name, asyncio.get_running_loop().time()) is not None:
                _log.warning("metric %s is left out of the score: %s", self.name, _describe(error))


async def run_command(command: str) -> float:
    """Return the number that a program prints. The command is split as by a shell, but runs without a shell.

    Raises MeasureError if it fails or prints no number, OSError if it cannot be started. When this is
    cancelled or times out, the program and its children are killed.
    """
    # Not asyncio's pipe: with that, wait() would wait for every process that holds the other end.
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
    )
    with contextlib.closing(transport):
        try:
            process = await asyncio.create_subprocess_exec(
                *shlex.split(command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            output = await _read_all(reader.read)
            status = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
    if status != 0:
        raise MeasureError(f"{command!r} ended with status {status}")
    return parse_number(output)


async def get_url(url: str) -> float:
    """Return the number that a URL returns with status 200. Raises MeasureError or OSError."""
    try:
        status, body = await http_get.get(*http_get.read_url(url, MAX_BYTES + 1))
    except (http_get.BadAnswer, http_get.ClosedEarly, ValueError) as error:
        raise MeasureError(f"{url}: {error}") from None
    if status != 200:
        raise MeasureError(f"{url} answered with status {status}")
    return parse_number(_short(body))


def parse_number(output: bytes) -> float:
    """Return the number in an output: plain, or the member "load" of a JSON object. Raises MeasureError."""
    text = output.decode("ascii", "replace").strip()
    try:
        number = float(text if not text.startswith("{") else json.loads(text)["load"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise MeasureError(f"{text[:80]!r} is not a number") from None
    if not math.isfinite(number) or number < 0:
        raise MeasureError(f"{number} is not a load")
    return number


async def _read_all(read: Callable[[int], Awaitable[bytes]]) -> bytes:
    output = b""
    while chunk := await read(MAX_BYTES + 1 - len(output)):
        output = _short(output + chunk)
    return output


def _short(output: bytes) -> bytes:
    if len(output) > MAX_BYTES:
        raise MeasureError(f"the answer is longer than {MAX_BYTES} bytes")
    return output


def _describe(error: Exception) -> str:
    return f"no answer in {TIMEOUT:g} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
