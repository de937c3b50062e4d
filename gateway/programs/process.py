"""The process of the programs: it takes what workers ask, and runs the programs of the snapshot."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from gateway.config.apache_rules import Program
from gateway.config.file_stamp import Stamp, stamp_of
from gateway.process.child import ChildContext, LoopChild, Update, Work, run_loop
from gateway.process.map_questions import Answer, Asked, Malformed, accept, packets
from gateway.programs.counts import Counts
from gateway.programs.runner import Runner
from gateway.reports import MapProgramReport

log = logging.getLogger(__name__)

EVERY: Final = 1.0
"""Seconds between two reports."""
LINGER: Final = 60.0
"""Seconds for which a program that no rule names any more answers requests that began before."""
MOST_WORDS: Final = 200
"""Characters of a command in metrics."""


def prepare(context: ChildContext) -> Work:
    """The part of the start that runs once the process is confined."""
    return partial(run_loop, lambda: ProgramsProcess(context))


class ProgramsProcess(LoopChild):
    """Works by successive snapshots."""

    def __init__(self, context: ChildContext) -> None:
        super().__init__(context.channel)
        assert context.door is not None  # noqa: S101 - the role gets it
        self._door = context.door
        self._door.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._bulletin = context.bulletins["programs"]
        self._snapshot = context.snapshot
        self._connections: set[socket.socket] = set()
        self._runners: dict[tuple[str, ...], Runner] = {}
        self._stamps: dict[tuple[str, ...], tuple[Stamp, ...]] = {}
        self._counts: dict[tuple[str, ...], Counts] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin by the first snapshot."""
        self._use(self._snapshot.programs)
        asyncio.get_running_loop().add_reader(self._door, self._enter)
        self._post()
        self.ready(self._snapshot.version)

    async def go_over(self, update: Update) -> None:
        """Run the programs of another snapshot. For one whose files have changed another one takes what waits."""
        self._snapshot = update.snapshot
        self._use(self._snapshot.programs)
        self.ready(self._snapshot.version)

    def drain(self, seconds: float) -> None:  # noqa: ARG002 - the workers have ended before
        """End."""
        self.end()

    async def close(self) -> None:
        """End the programs, which have a while for that."""
        asyncio.get_running_loop().remove_reader(self._door)
        for runner in self._runners.values():
            self._retire(runner)
        if self._leaving:
            await asyncio.wait(self._leaving)
        for connection in list(self._connections):
            self._part(connection)

    def _use(self, programs: Iterable[Program]) -> None:
        for program in programs:
            command = program.command
            stamps = tuple(stamp_of(Path(word)) for word in command if word.startswith("/"))
            before = self._runners.get(command)
            if before is not None and stamps == self._stamps[command]:
                continue
            self._stamps[command] = stamps
            counts = self._counts.setdefault(command, Counts())
            fresh = self._runners[command] = Runner(command, counts)
            if before is not None:
                log.info("map program %s has changed and is replaced", command[0])
                before.hand_over(fresh)
                self._retire(before)
        loop = asyncio.get_running_loop()
        wanted = {program.command for program in programs}
        for command in self._runners.keys() - wanted:
            loop.call_later(LINGER, self._leave, command)

    def _leave(self, command: tuple[str, ...]) -> None:
        """End a program that no rule names any more."""
        if command not in {program.command for program in self._snapshot.programs} and command in self._runners:
            self._retire(self._runners.pop(command))
            del self._stamps[command], self._counts[command]

    def _retire(self, runner: Runner) -> None:
        task = asyncio.get_running_loop().create_task(runner.retire())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _enter(self) -> None:
        """Take the connections of workers."""
        with contextlib.suppress(OSError):
            while True:
                connection = accept(self._door)
                self._connections.add(connection)
                asyncio.get_running_loop().add_reader(connection, self._hear, connection)

    def _hear(self, connection: socket.socket) -> None:
        """Take what a worker asks."""
        try:
            for packet in packets(connection):
                self._ask(connection, Asked.read(packet))
        except Malformed as error:
            log.error("a worker has sent a question that cannot be read: %s", error)
            self._part(connection)
        except ConnectionError:
            self._part(connection)

    def _ask(self, connection: socket.socket, asked: Asked) -> None:
        answer = partial(self._answer, connection, asked.number)
        runner = self._runners.get(asked.command)
        if runner is None:
            answer("its program is not among those of the site file")
        else:
            runner.ask(asked.key, answer)

    def _answer(self, connection: socket.socket, number: int, said: bytes | str | None) -> None:
        if connection in self._connections:
            with contextlib.suppress(OSError):  # it has ended, or does not read, and has its own patience
                connection.send(Answer(number, said).packet())

    def _part(self, connection: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(connection)
        self._connections.discard(connection)
        connection.close()

    def _post(self) -> None:
        """Report, again and again."""
        reports = [
            MapProgramReport(
                program=" ".join(command)[:MOST_WORDS],
                found=counts.found,
                none=counts.none,
                failed=dict(counts.failed),
                starts=counts.starts,
                waiting=self._runners[command].waiting,
                failing=counts.failing,
            )
            for command, counts in sorted(self._counts.items())
        ]
        self._bulletin.post({"programs": [asdict(report) for report in reports]})
        asyncio.get_running_loop().call_later(EVERY, self._post)
