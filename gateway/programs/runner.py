"""Runs a program of a map: writes it one key at a time, each in a line, and reads the line that answers it."""

import asyncio
import contextlib
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, cast

from gateway.hardening import kernel
from gateway.process.map_questions import MAX_VALUE
from gateway.programs.counts import Counts

log = logging.getLogger(__name__)

ANSWER: Final = 5.0
"""Seconds that the program has for an answer; then it is killed."""
TURN: Final = 5.0
"""Seconds that a question waits for its turn."""
MOST: Final = 1024
"""Questions that wait."""
GRACE: Final = 2.0
"""Seconds for a program to end once its input has ended."""
ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

Told = Callable[[bytes | str | None], None]


@dataclass(frozen=True, slots=True)
class Question:
    """One that waits."""

    key: bytes
    told: Told
    came: float


class _Pipes(asyncio.SubprocessProtocol):
    """What the program has written and was not read yet, and its end."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.news = asyncio.Event()
        self.gone = False
        self.process: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.process = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - only its standard output is a pipe
        if len(self.written) <= MAX_VALUE + 1:  # of more than an answer nothing is kept
            self.written += data
        self.news.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.news.set()

    def process_exited(self) -> None:
        self.gone = True
        self.news.set()

    @property
    def ending(self) -> str:
        """How it has ended."""
        code = self.process.get_returncode() if self.process is not None else None
        if code is None:
            return "has ended"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"has ended with status {code}"


class _Fault(Exception):
    """The program must be started again; `reason` is of counts.REASONS, the text says what it has done."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class Runner:
    """A program that is started at once, as in Apache, and again whenever it ends, until it is to `retire`."""

    def __init__(self, command: tuple[str, ...], counts: Counts) -> None:
        self.command = command
        self.counts = counts
        self._waiting: deque[Question] = deque()
        self._wake = asyncio.Event()
        self._retired = False
        self._resting_until = 0.0
        self._task = asyncio.get_running_loop().create_task(self._live())

    @property
    def waiting(self) -> int:
        """Questions that wait for their turn."""
        return len(self._waiting)

    def ask(self, key: bytes, told: Told) -> None:
        """Ask, and tell: a value, None (there is none), or a text that says why there is no answer."""
        now = asyncio.get_running_loop().time()
        if now < self._resting_until:
            self._refuse(told, "ended", self._resting(now))
        elif len(self._waiting) >= MOST:
            self._refuse(told, "full", "too many questions wait for its program")
        else:
            self._waiting.append(Question(key, told, now))
            self._wake.set()

    def hand_over(self, other: "Runner") -> None:
        """Leave what waits to another one; then this one is to retire."""
        other.take(self._waiting)
        self._waiting = deque()

    def take(self, questions: Iterable[Question]) -> None:
        """Take what waits for another one."""
        self._waiting.extend(questions)
        self._wake.set()

    async def retire(self) -> None:
        """Answer what waits, and end the program."""
        self._retired = True
        self._wake.set()
        await self._task

    def _refuse(self, told: Told, reason: str, why: str) -> None:
        self.counts.failed[reason] += 1
        told(why)

    def _resting(self, now: float) -> str:
        again = self._resting_until - now
        return f"its program {self.counts.failing}, and is started again in {max(again, 0.1):.1f} s"

    async def _live(self) -> None:
        while not self._retired:
            try:
                await self._run()
            except _Fault as fault:
                if self._retired:
                    return
                pause = self.counts.ended(str(fault))
                when = f" in {pause:.1f} s" if pause else ""
                log.error("map program %s %s; starting it again%s", self.command[0], fault, when)
                await self._rest(pause)

    async def _rest(self, pause: float) -> None:
        """Wait before the next start. What waits is refused at once."""
        if not pause:
            return
        now = asyncio.get_running_loop().time()
        self._resting_until = now + pause
        while self._waiting:
            self._refuse(self._waiting.popleft().told, "ended", self._resting(now))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                while not self._retired:
                    self._wake.clear()
                    await self._wake.wait()
        self._resting_until = 0.0

    async def _run(self) -> None:
        """Start the program, and ask it until it is to retire. Raises _Fault."""
        loop = asyncio.get_running_loop()
        self.counts.starts += 1
        try:
            process, pipes = await loop.subprocess_exec(
                _Pipes,
                *self.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=None,  # to the log
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                preexec_fn=kernel.end_with_parent,
            )
        except (OSError, ValueError) as error:
            said = (getattr(error, "strerror", None) or str(error)).lower()
            raise _Fault("ended", f"cannot be run: {said}") from None
        try:
            await self._serve(process, pipes)
            await _end(process, pipes)
        finally:
            _kill(process)
            await _gone(pipes)
            process.close()

    async def _serve(self, process: asyncio.SubprocessTransport, pipes: _Pipes) -> None:
        while True:
            if pipes.gone:
                raise _Fault("ended", pipes.ending)
            if pipes.written:
                raise _Fault("unasked", "has written more than one line for a key, or without one, and is killed")
            if self._waiting:
                await self._next(process, pipes)
            elif self._retired:
                return
            else:
                await _either(self._wake, pipes.news)

    async def _next(self, process: asyncio.SubprocessTransport, pipes: _Pipes) -> None:
        """Ask the oldest question. Raises _Fault."""
        question = self._waiting.popleft()
        if asyncio.get_running_loop().time() - question.came > TURN:
            self._refuse(question.told, "late", f"its program did not come to this key in {TURN:g} s")
            return
        try:
            said = await _line(process, pipes, question.key)
        except _Fault as fault:
            self._refuse(question.told, fault.reason, f"its program {fault}")
            raise
        found = said.upper() != b"NULL"
        self.counts.answered(found=found)
        question.told(said if found else None)


async def _line(process: asyncio.SubprocessTransport, pipes: _Pipes, key: bytes) -> bytes:
    """The line that answers a key, without its end. Raises _Fault."""
    cast("asyncio.WriteTransport", process.get_pipe_transport(0)).write(key + b"\n")
    try:
        async with asyncio.timeout(ANSWER):
            while b"\n" not in pipes.written:
                if pipes.gone:
                    raise _Fault("ended", f"{pipes.ending} before it answered")
                if len(pipes.written) > MAX_VALUE:
                    break
                pipes.news.clear()
                await pipes.news.wait()
    except TimeoutError:
        raise _Fault("slow", f"has not answered in {ANSWER:g} s, and is killed") from None
    line, end, rest = bytes(pipes.written).partition(b"\n")
    if not end or len(line) > MAX_VALUE:
        raise _Fault("long", f"has answered with more than {MAX_VALUE} bytes, and is killed")
    pipes.written[:] = rest
    return line


async def _either(*events: asyncio.Event) -> None:
    """Wait for one of them, and clear all."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for event in events:
        event.clear()


async def _end(process: asyncio.SubprocessTransport, pipes: _Pipes) -> None:
    """Let it end by itself: its input has ended."""
    writing = process.get_pipe_transport(0)
    if writing is not None:
        writing.close()
    await _gone(pipes)


async def _gone(pipes: _Pipes) -> None:
    """Wait for its end, within GRACE."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            while not pipes.gone:
                pipes.news.clear()
                await pipes.news.wait()


def _kill(process: asyncio.SubprocessTransport) -> None:
    """End it with all that it has started."""
    if process.get_returncode() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.get_pid(), signal.SIGKILL)
