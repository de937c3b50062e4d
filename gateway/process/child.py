"""A process of the tree: its context from the supervisor, and how it carries out orders until it ends."""

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.board import Board
from gateway.config.address import Listen
from gateway.config.map_table import MapTable
from gateway.config.maps import Tables
from gateway.config.places import Database
from gateway.config.snapshot import Snapshot
from gateway.hardening.account import Account
from gateway.process.bulletin import Bulletin
from gateway.process.channel import (
    Answered,
    Apply,
    ChildEnd,
    Closed,
    Drain,
    Follow,
    HandOver,
    Packed,
    Ready,
    ReopenLog,
    Report,
    Unfollow,
)
from gateway.process.tail import Wanted
from gateway.secrets.vault import Vault
from qos.rates import RateTable
from qos.sessions import SessionTable

log = logging.getLogger(__name__)

Place: TypeAlias = tuple[Listen, socket.socket]
"""A socket with the address it was opened for."""
Work: TypeAlias = Callable[[], None]
"""The whole life of a process, once it is confined."""


class CannotStart(Exception):
    """This machine lacks something that the site file needs in this process; the text says what."""


@dataclass(frozen=True, slots=True)
class ChildContext:
    """What the supervisor hands a process of the tree.

    `sockets` are those of its role by name, `bulletins` those of all processes, by their names. `cells` is the number
    of workers whose counts on the Board are added up. The access log is for processes that carry traffic; for others it
    is closed. `rates`: of its role, or else of the workers. `vault`: as Configuration.vault_of says.
    """

    number: int
    board: Board
    snapshot: Snapshot
    cells: int
    sockets: Mapping[str, list[Place]]
    log_fd: int | None
    vault: Vault | None
    rates: RateTable
    sessions: SessionTable
    bulletins: Mapping[str, Bulletin]
    account: Account | None
    """To switch to, for a role that keeps root until it has what it needs."""
    takes_over: bool
    """Another gateway hands over to this one and is about to end."""
    channel: ChildEnd
    spans: socket.socket | None = None
    """Of packets about sampled requests: the end to write, for those with traffic, or to read, for tracing."""
    door: socket.socket | None = None
    """Through which those with traffic connect to the process of programs (gateway/process/map_questions.py)."""

    def bulletins_of(self, role: str) -> list[Bulletin]:
        """The bulletins of all processes that a numbered role can have, in the order of their numbers."""
        return [bulletin for name, bulletin in self.bulletins.items() if name.partition(" ")[0] == role]


@dataclass(frozen=True, slots=True)
class Update:
    """An Apply order with its descriptors: `new` has the sockets to open with their names, `kept` the identities of all
    that stay.
    """

    packed: Packed
    cells: int
    kept: frozenset[int]
    new: tuple[tuple[str, Place], ...]
    log_fd: int | None
    vault: Vault | None
    maps: Tables
    database: Database | None = None

    @classmethod
    def of(cls, order: Apply, descriptors: list[int]) -> "Update":
        """Give descriptors the meaning that the order says."""
        left = iter(descriptors)
        new = tuple((name, (listen, socket.socket(fileno=next(left)))) for name, listen in order.new)
        log_fd = next(left) if order.log else None
        vault = Vault(next(left)) if order.vault else None
        maps = {name: MapTable(next(left)) for name in order.maps}
        for table in maps.values():
            table.close_descriptor()
        database = Database(next(left)) if order.database else None
        return cls(order.packed, order.cells, order.sockets, new, log_fd, vault, maps, database)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot, unpacked: that of a large site takes a while."""
        return self.packed.snapshot.with_maps(self.maps).with_database(self.database)

    def named(self) -> dict[str, socket.socket]:
        """The new sockets by name, for a role with one of each."""
        return {name: sock for name, (_, sock) in self.new}


class Child:
    """Carries out the supervisor's orders: one method each. A role implements those that concern it."""

    def __init__(self, channel: ChildEnd) -> None:
        self.channel = channel

    def apply(self, update: Update) -> None:
        """Use another snapshot."""
        raise NotImplementedError

    def reopen_log(self, descriptor: int) -> None:
        """Write the access log to another file."""
        os.close(descriptor)

    def follow(self, number: int, wanted: Wanted, descriptor: int) -> None:  # noqa: ARG002 - for those with traffic
        """Write what is wanted of the requests to a socket."""
        os.close(descriptor)

    def unfollow(self, number: int) -> None:
        """End what `follow` has begun."""

    def hand_over(self) -> None:
        """Hand everything to the same process of the next gateway, and end."""

    def drain(self, seconds: float) -> None:
        """Finish running work within `seconds`, then end."""
        raise NotImplementedError

    def answered(self, answer: Answered, descriptors: list[int]) -> None:  # noqa: ARG002 - for those that ask
        """Take the answer to a Command, with the descriptors that belong to it."""
        for descriptor in descriptors:
            os.close(descriptor)

    def orphaned(self) -> None:
        """Finish: the supervisor has exited, so nothing would replace or stop this process."""
        raise NotImplementedError

    def obey(self) -> None:
        """Carry out the orders that have arrived."""
        try:
            orders = self.channel.receive()
        except Closed:
            self.orphaned()
            return
        for order, descriptors in orders:
            match order:
                case Apply():
                    self.apply(Update.of(order, descriptors))
                case ReopenLog():
                    self.reopen_log(descriptors[0])
                case Follow(number, wanted):
                    self.follow(number, wanted, descriptors[0])
                case Unfollow(number):
                    self.unfollow(number)
                case HandOver():
                    self.hand_over()
                case Drain(seconds):
                    self.drain(seconds)
                case Answered():
                    self.answered(order, descriptors)

    def report(self, report: Report) -> None:
        """Send a report; that the supervisor has exited is noticed where orders are read. Raises ValueError."""
        try:
            self.channel.send(report)
        except Closed:
            log.debug("the supervisor accepts no more reports")

    def ready(self, version: int) -> None:
        """Say that the snapshot of this version is in use."""
        self.report(Ready(version))


class LoopChild(Child):
    """One in an event loop. Updates are applied one after another, and orders obeyed meanwhile."""

    def __init__(self, channel: ChildEnd) -> None:
        super().__init__(channel)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._updates: deque[Update] = deque()
        self._applying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to work by the first snapshot."""

    async def go_over(self, update: Update) -> None:
        """Use another snapshot."""
        raise NotImplementedError

    async def close(self) -> None:
        """Release everything."""

    def finish(self) -> None:
        """End as soon as what runs has ended."""
        self.end()

    def terminate(self) -> None:
        """Obey SIGTERM, which did not come from the supervisor."""
        log.info("SIGTERM: finishing running requests")
        self.finish()

    def orphaned(self) -> None:
        """Finish: the supervisor has exited, so nothing would replace or stop this process."""
        asyncio.get_running_loop().remove_reader(self.channel)
        log.error("the supervisor has exited; finishing running requests")
        self.finish()

    def end(self) -> None:
        """Let the process end."""
        if not self._ended.done():
            self._ended.set_result(None)

    def apply(self, update: Update) -> None:
        """Apply it after those that have come before."""
        self._updates.append(update)
        if self._applying is None or self._applying.done():
            self._applying = asyncio.get_running_loop().create_task(self._apply_all())
            self._applying.add_done_callback(self._applied)

    async def live(self) -> None:
        """Work until told to end. Raises what a snapshot raises that cannot be applied."""
        loop = asyncio.get_running_loop()
        try:
            await self.start()
            loop.add_reader(self.channel, self.obey)
            loop.add_signal_handler(signal.SIGTERM, self.terminate)
            await self._ended
        finally:
            loop.remove_reader(self.channel)
            if self._applying is not None:
                self._applying.cancel()
            await self.close()

    async def _apply_all(self) -> None:
        while self._updates:
            await self.go_over(self._updates.popleft())

    def _applied(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._ended.done():
            self._ended.set_exception(error)


def run_loop(
    make: Callable[[], LoopChild], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    """Run a process with an event loop, asyncio's own or another; `make` is called inside it."""

    async def live() -> None:
        await make().live()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(live())
