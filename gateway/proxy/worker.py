"""A worker: the data plane of one process. It accepts, routes, picks and forwards until it drains."""

import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

from gateway.config.model import Listen
from gateway.process.channel import identity
from gateway.process.child import ChildContext, LoopChild, Place, Update, Work, run_loop
from gateway.process.tail import Wanted
from gateway.proxy.challenges import Challenges
from gateway.proxy.http2_client import withdraw
from gateway.proxy.listener import Listener, announce_drain, retire_clients
from gateway.proxy.loop import EventLoop
from gateway.proxy.plan import Plan, Prepared
from gateway.proxy.program_questions import ProgramQuestions
from gateway.proxy.tail import Tails
from gateway.proxy.worker_context import WorkerContext

log = logging.getLogger(__name__)

NOTICE = 1.0
"""Seconds that a draining worker leaves to idle clients: otherwise a request in transit would be lost."""
SHARE = 0.001
"""Seconds for which a thread that prepares a snapshot may hold the GIL."""
BATCH = 100
"""Routes freed at a time."""
PULSE = 0.25
"""Seconds between two updates of the Board that show the heartbeat that requests are served."""
LAST_LINES = 1.0
"""Seconds for the last lines of logs to reach their receivers."""
DRAIN_STEP = 0.05
"""Seconds between two checks for remaining connections."""


Beside = Callable[..., Awaitable[Any]]
"""Runs a function with arguments in a thread."""


class Worker(LoopChild):
    """Runs in its own process and event loop."""

    def __init__(self, context: ChildContext, loop: EventLoop) -> None:
        super().__init__(context.channel)
        self._log_fd = context.log_fd
        self._poller = loop.poller
        self._context = WorkerContext(self._poller, context.board, context.number, context.rates, context.sessions)
        self._context.programs = ProgramQuestions(loop, context.door)
        self._plan = Plan(self._context, Challenges(context.bulletins["acme"]), context.spans, writes=True)
        self._listeners: dict[int, tuple[Listen, Listener]] = {}  # by the identity of the socket
        self._draining: asyncio.Task[None] | None = None
        self._withdrawing: asyncio.Task[None] | None = None
        self._drain_seconds = context.snapshot.site.drain
        sys.setswitchinterval(SHARE)
        if context.vault is None:
            raise ValueError("a worker starts with a vault")
        with context.vault.open() as secrets:
            prepared = self._plan.prepare(context.snapshot, secrets, context.cells)
        context.vault.close()
        self._adopt(prepared, chain.from_iterable(context.sockets.values()))
        self._board, self._number = context.board, context.number
        self._beat()

    async def close(self) -> None:
        """Stop, after draining."""
        self._poller.stop()
        await self._plan.close_logs(LAST_LINES)
        if self._context.tails is not None:
            self._context.tails.close()
        self._plan.close_tracing()
        self._context.programs.close()

    async def go_over(self, update: Update) -> None:
        """Switch to another snapshot. It is prepared in a thread while traffic continues."""
        loop = asyncio.get_running_loop()
        gc.disable()  # the new objects are not garbage: a collection would only block traffic
        try:
            with ThreadPoolExecutor(1) as thread:
                await self._go_over(update, partial(loop.run_in_executor, thread))
        finally:
            if update.vault is not None:
                update.vault.close()
            gc.enable()

    async def _go_over(self, update: Update, beside: Beside) -> None:
        try:
            prepared: Prepared | None = await beside(self._prepare, update)
        except Exception:
            log.exception("cannot apply the configuration; keeping the previous one")
            prepared = None
        if prepared is None or self._draining is not None:
            for _, (_, sock) in update.new:
                sock.close()
            return
        self._let_go(self._listeners.keys() - update.kept)
        before = list(self._context.routes.routes)
        self._adopt(prepared, (place for _, place in update.new))
        await beside(_free, before)

    def _prepare(self, update: Update) -> Prepared:
        if update.vault is None:
            raise ValueError("an update for a worker comes with a vault")
        snapshot = update.snapshot
        with update.vault.open() as secrets:
            prepared = self._plan.prepare(snapshot, secrets, update.cells)
        routes = list(snapshot.site.routes)
        del snapshot
        _free(routes)
        return prepared

    def _adopt(self, prepared: Prepared, new: Iterable[Place]) -> None:
        self._plan.adopt(prepared, self._log_fd)
        self._drain_seconds = prepared.drain
        withdrawn = False
        for listen, listener in self._listeners.values():
            withdrawn |= listener.frontend.offers_http2 and not self._plan.frontends[listen].offers_http2
            listener.frontend = self._plan.frontends[listen]
        for listen, sock in new:
            self._listeners[identity(sock)] = listen, Listener(self._context, self._plan.frontends[listen], sock)
        # Objects that live as long as the snapshot need not be scanned by the collector, and little else makes cycles.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self.ready(prepared.version)
        if withdrawn:
            self._withdrawing = asyncio.get_running_loop().create_task(self._withdraw_http2())

    async def _withdraw_http2(self) -> None:
        """Ask the clients of frontends without HTTP/2 to connect again; their running requests are finished."""
        withdraw(self._poller, last=False)
        await asyncio.sleep(NOTICE)
        # A connection whose client sends right now is asked again.
        while withdraw(self._poller, last=True):  # noqa: ASYNC110 - connections end in compiled code, without an event
            await asyncio.sleep(DRAIN_STEP)

    def _let_go(self, identities: Iterable[int]) -> None:
        """Close sockets; clients that already wait in their queues are still served."""
        for number in list(identities):
            _, listener = self._listeners.pop(number)
            listener.accept_waiting()
            listener.stop()
            listener.socket.close()

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._board.set_pulse(self._number, time.monotonic())
        loop.call_later(PULSE, self._beat)

    def apply(self, update: Update) -> None:
        """Switch the log at once; the rest follows when it is prepared."""
        if update.log_fd is not None:
            self.reopen_log(update.log_fd)
        super().apply(update)

    def reopen_log(self, descriptor: int) -> None:
        """Continue in another file."""
        before, self._log_fd = self._log_fd, descriptor
        self._plan.move_log(descriptor)
        if before is not None and before > 2:
            os.close(before)

    def follow(self, number: int, wanted: Wanted, descriptor: int) -> None:
        """Write what an operator wants of the requests to a socket."""
        if self._context.tails is None:
            self._context.tails = Tails(self._context)
        self._context.tails.add(number, wanted, descriptor)

    def unfollow(self, number: int) -> None:
        """End that."""
        if self._context.tails is not None:
            self._context.tails.remove(number)

    def drain(self, seconds: float) -> None:
        """Stop accepting, finish running requests within `seconds`, then end."""
        self._drain_seconds = seconds
        self._drain()

    def finish(self) -> None:
        """Drain within the time configured in the site file."""
        self._drain()

    def _drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain_out())

    async def _drain_out(self) -> None:
        self._context.draining = True
        self._let_go(self._listeners.keys())
        for server in self._plan.servers.values():
            server.retire()  # idle connections need no waiting
        announce_drain(self._poller)
        began = time.monotonic()
        notice, deadline = began + min(NOTICE, self._drain_seconds / 2), began + self._drain_seconds
        # New requests are answered with `Connection: close`; clients still connected at the deadline were idle all the
        # time.
        # (Polling, because connections end in compiled code, which sends no event.)
        while self._poller.count and time.monotonic() < notice:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_STEP)
        while (left := retire_clients(self._poller)) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_STEP)
        if left:
            log.warning("%d connections were still busy after %gs; closing them", left, self._drain_seconds)
        self.end()


def _free(routes: list[Any]) -> None:
    """Free routes in batches: freeing those of a large site at once would block traffic."""
    while routes:
        del routes[-BATCH:]


def prepare(context: ChildContext) -> Work:
    """The part of the start that runs once the process is confined."""
    return partial(_run, context)


def _run(context: ChildContext) -> None:
    loop = EventLoop()
    run_loop(lambda: Worker(context, loop), lambda: loop)
