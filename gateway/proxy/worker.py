"""A worker: the data plane of one process. Accepts, routes, picks, forwards, until it is told to drain."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.board import Board
from gateway.config.model import Listen
from gateway.config.snapshot import Snapshot
from gateway.process.channel import Apply, ChildEnd, Closed, Drain, Ready, ReopenLog, Report, identity
from gateway.proxy.listener import Listener, retire_clients
from gateway.proxy.loop import EventLoop
from gateway.proxy.plan import Plan, Prepared
from gateway.proxy.worker_context import WorkerContext
from gateway.secrets.vault import Vault
from qos.rates import RateTable

log = logging.getLogger(__name__)

NOTICE = 1.0
"""Seconds that a draining worker leaves to silent clients: a request that is on its way would be lost."""
SHARE = 0.001
"""Seconds that a thread which prepares a snapshot may keep the traffic waiting."""
BATCH = 100
"""Routes freed at a time."""
PULSE = 0.25
"""Seconds between two signs of life on the Board, by which the heartbeat knows that requests are answered."""
DRAIN_STEP = 0.05
"""Seconds between two looks at who is still there."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a worker gets from the supervisor at birth."""

    number: int
    board: Board
    snapshot: Snapshot
    cells: int
    sockets: list[tuple[Listen, socket.socket]]
    log_fd: int | None
    vault: Vault
    rates: RateTable
    channel: ChildEnd


Beside = Callable[..., Awaitable[Any]]
"""Runs a function with arguments in a thread."""


class Worker:
    """Runs in its own process and event loop."""

    def __init__(self, inherited: Inheritance, loop: EventLoop) -> None:
        self._channel = inherited.channel
        self._log_fd = inherited.log_fd
        self._poller = loop.poller
        self._context = WorkerContext(self._poller, inherited.board, inherited.number, inherited.rates)
        self._plan = Plan(self._context)
        self._listeners: dict[int, tuple[Listen, Listener]] = {}  # by the identity of the socket
        self._done: asyncio.Future[None] = loop.create_future()
        self._draining: asyncio.Task[None] | None = None
        self._drain_seconds = inherited.snapshot.site.drain
        self._news: deque[tuple[Apply, list[socket.socket], Vault]] = deque()
        self._applying: asyncio.Task[None] | None = None
        sys.setswitchinterval(SHARE)
        with inherited.vault.open() as secrets:
            prepared = self._plan.prepare(inherited.snapshot, secrets, inherited.cells)
        inherited.vault.close()
        self._adopt(prepared, inherited.sockets)
        self._board, self._number = inherited.board, inherited.number
        self._beat()
        loop.add_reader(self._channel, self._hear)
        loop.add_signal_handler(signal.SIGTERM, self._drain)

    async def run(self) -> None:
        """Carry traffic until drained."""
        try:
            await self._done
        finally:
            self._poller.stop()
            if self._context.log is not None:
                self._context.log.close()

    async def _apply(self) -> None:
        """Go over to each snapshot that has come. It is prepared in a thread: traffic goes on beside it."""
        loop = asyncio.get_running_loop()
        while self._news:
            news, new, vault = self._news.popleft()
            gc.disable()  # what is made now is no garbage: looking for some would keep everybody waiting
            try:
                with ThreadPoolExecutor(1) as thread:
                    await self._go_over(news, new, vault, partial(loop.run_in_executor, thread))
            finally:
                vault.close()
                gc.enable()

    async def _go_over(self, news: Apply, new: list[socket.socket], vault: Vault, beside: Beside) -> None:
        try:
            prepared: Prepared | None = await beside(self._prepare, news, vault)
        except Exception:
            log.exception("this worker goes on with the snapshot before")
            prepared = None
        if prepared is None or self._draining is not None:
            for sock in new:
                sock.close()
            return
        self._let_go(self._listeners.keys() - news.sockets)
        before = list(self._context.routes.routes)
        self._adopt(prepared, list(zip(news.listens, new, strict=True)))
        await beside(_free, before)

    def _prepare(self, news: Apply, vault: Vault) -> Prepared:
        snapshot = news.packed.snapshot
        with vault.open() as secrets:
            prepared = self._plan.prepare(snapshot, secrets, news.cells)
        routes = list(snapshot.site.routes)
        del snapshot
        _free(routes)
        return prepared

    def _adopt(self, prepared: Prepared, new: list[tuple[Listen, socket.socket]]) -> None:
        self._plan.adopt(prepared, self._log_fd)
        self._drain_seconds = prepared.drain
        for listen, listener in self._listeners.values():
            listener.frontend = self._plan.frontends[listen]
        for listen, sock in new:
            self._listeners[identity(sock)] = listen, Listener(self._context, self._plan.frontends[listen], sock)
        # What lives as long as the snapshot need not be looked at by the collector, and little else makes cycles.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self._tell(Ready(prepared.version))

    def _let_go(self, identities: Iterable[int]) -> None:
        """Close sockets: whoever waits in them by now is served, if on the last day."""
        for number in list(identities):
            _, listener = self._listeners.pop(number)
            listener.accept_waiting()
            listener.stop()
            listener.socket.close()

    def _tell(self, report: Report) -> None:
        try:
            self._channel.send(report)
        except Closed:
            self._drain()

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._board.set_pulse(self._number, time.monotonic())
        loop.call_later(PULSE, self._beat)

    def _hear(self) -> None:
        try:
            messages = self._channel.receive()
        except Closed:
            # The supervisor is gone, and with it whoever could replace this worker.
            asyncio.get_running_loop().remove_reader(self._channel)
            log.error("the supervisor has exited; finishing running requests")
            self._drain()
            return
        for message, descriptors in messages:
            match message:
                case Apply():
                    *fds, vault = descriptors
                    given = [socket.socket(fileno=fd) for fd in fds[: len(message.listens)]]
                    if message.log:
                        self._take_log(fds[-1])
                    self._news.append((message, given, Vault(vault)))
                    if self._applying is None or self._applying.done():
                        self._applying = asyncio.get_running_loop().create_task(self._apply())
                case ReopenLog():
                    self._take_log(descriptors[0])
                case Drain():
                    self._drain_seconds = message.seconds
                    self._drain()

    def _take_log(self, fd: int) -> None:
        before, self._log_fd = self._log_fd, fd
        if self._context.log is not None:
            self._context.log.reopen(fd)
            self._plan.log_moved(fd)
        if before is not None and before > 2:
            os.close(before)

    def _drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain_out())

    async def _drain_out(self) -> None:
        self._context.draining = True
        self._let_go(self._listeners.keys())
        for server in self._plan.servers.values():
            server.retire()  # what idles need not be waited for
        began = time.monotonic()
        notice, deadline = began + min(NOTICE, self._drain_seconds / 2), began + self._drain_seconds
        # Who asks now is told to close after the answer; who is left then has been silent all the time.
        # (Looking again and again, because connections end in compiled code, which tells nobody.)
        while self._poller.count and time.monotonic() < notice:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_STEP)
        while (left := retire_clients(self._poller)) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_STEP)
        if left:
            log.warning("%d connections were still busy after %gs and are cut", left, self._drain_seconds)
        if not self._done.done():
            self._done.set_result(None)


def _free(routes: list[Any]) -> None:
    """Bit by bit: to free those of a large site at once would keep the traffic waiting."""
    while routes:
        del routes[-BATCH:]


async def _live(inherited: Inheritance, loop: EventLoop) -> None:
    await Worker(inherited, loop).run()


def run(inherited: Inheritance) -> None:
    """The whole life of a worker process."""
    loop = EventLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(_live(inherited, loop))
