"""Asks the programs of maps beside the traffic: over a socket to their process, which asks one after the other."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.process.map_questions import Answer, Asked, Malformed, connect, packets
from gateway.rules.question import ProgramQuestion

MOST: Final = 256
"""Questions of a worker that wait."""
FULL: Final = 503
"""Status of requests beyond."""
PATIENCE: Final = 12.0
"""Seconds for an answer. Their process answers within 10, whatever a program does."""
GONE: Final = "the process that runs the programs of maps has ended"
SILENT: Final = "the process that runs the programs of maps does not answer"

Told = Callable[[bytes | str | None], None]


@dataclass(slots=True)
class _Waiting:
    request: int
    told: Told
    timer: asyncio.TimerHandle


class ProgramQuestions:
    """door: where the process takes connections, as gateway/process/map_questions.py says; None: there is none."""

    def __init__(self, loop: asyncio.AbstractEventLoop, door: socket.socket | None) -> None:
        self._loop = loop
        self._door = door
        self._connection: socket.socket | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._count = 0

    def ask(self, question: ProgramQuestion, _client: bytes, request: int, told: Told) -> int:
        """Ask, and tell the answer later, in this thread: 0; or the status of a request that must not.

        The answer is bytes, None (no value), or a text: why there is no answer. `request` is for `forget`.
        """
        if len(self._waiting) >= MOST:
            return FULL
        self._count += 1
        number = self._count
        timer = self._loop.call_later(PATIENCE, self._tell, number, SILENT)
        self._waiting[number] = _Waiting(request, told, timer)
        if why := self._send(Asked(number, question.command, question.text)):
            self._loop.call_soon(self._tell, number, why)
        return 0

    def forget(self, _question: ProgramQuestion, request: int) -> None:
        """The request has ended: nobody is told."""
        for number, waiting in list(self._waiting.items()):
            if waiting.request == request:
                waiting.timer.cancel()
                del self._waiting[number]

    def close(self) -> None:
        """Ask nothing more."""
        self._part(GONE)

    def _send(self, asked: Asked) -> str:
        """Send a question; why that cannot be done."""
        if self._connection is None:
            if self._door is None:
                return GONE
            try:
                self._connection = connect(self._door)
            except OSError:
                return SILENT
            self._loop.add_reader(self._connection, self._hear)
        try:
            self._connection.send(asked.packet())
        except BlockingIOError:
            return SILENT
        except OSError:
            self._part(GONE)
            return GONE
        return ""

    def _hear(self) -> None:
        """Take answers."""
        assert self._connection is not None  # noqa: S101 - it is heard until it is parted with
        try:
            for packet in packets(self._connection):
                with contextlib.suppress(Malformed):
                    answer = Answer.read(packet)
                    self._tell(answer.number, answer.said)
        except ConnectionError:
            self._part(GONE)

    def _part(self, why: str) -> None:
        """The connection has ended, and with it all that waits."""
        if self._connection is not None:
            self._loop.remove_reader(self._connection)
            self._connection.close()
            self._connection = None
        for number in list(self._waiting):
            self._tell(number, why)

    def _tell(self, number: int, said: bytes | str | None) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.timer.cancel()
            waiting.told(said)
