"""The guardian: a small child of the heartbeat process that reads nothing from the network.

It removes the addresses when the heartbeat process is stopped or dies, and it runs the programs named in the site file,
because the heartbeat process has dropped the privileges for that. It remains root only if there are such programs.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute

from gateway.config.cluster import SharedAddress
from gateway.heartbeat.fence import Deadlines
from gateway.heartbeat.interfaces import change_address
from gateway.heartbeat.jobs import Run
from gateway.heartbeat.request import MAX_REQUEST, BadRequest, Request, number_of

log = logging.getLogger(__name__)

POLL = 0.02
"""Seconds between two checks of running programs."""
FAILED = 255
MOST_RUNNING = 64
"""Programs at the same time: one per queue, and a cluster has few queues."""
MOST_WAITING = 256


@dataclass(frozen=True, slots=True)
class Ward:
    """A guarded address, and the slot of its deadline."""

    shared: SharedAddress
    slot: int
    index: int
    """Index of its interface."""


@dataclass(slots=True)
class _Running:
    number: int
    process: "subprocess.Popen[bytes]"
    kill_at: float


class Guardian:
    """Runs in its own process until the other end of `sock` is closed. `programs`: the only ones it will run.

    `started`: resources that an earlier guardian has started and left running.
    """

    def __init__(
        self,
        sock: socket.socket,
        wards: Sequence[Ward],
        deadlines: Deadlines,
        programs: frozenset[str],
        started: Sequence[Run] = (),
    ) -> None:
        self._socket = sock
        self._wards = wards
        self._deadlines = deadlines
        self._programs = programs
        self._seen: dict[int, float] = {}
        self._running: dict[str, _Running] = {}
        self._waiting: dict[str, list[Request]] = {}
        self._started = {run.program: Request.of(0, run) for run in started}
        self._netlink = IPRoute()

    def run(self) -> None:
        """Watch until the heartbeat process has ended."""
        while True:
            self._socket.settimeout(self._timeout())
            try:
                message = self._socket.recv(MAX_REQUEST + 1)
            except TimeoutError:
                message = None
            if message == b"":
                self._bereaved()
                return
            if message == b"bye":
                self._finish()
                return
            if message is not None:
                self._hear(message)
            self._watch()
            self._reap()

    def _timeout(self) -> float:
        now = clock()
        coming = [self._deadlines.get(ward.slot) - now for ward in self._wards]
        soonest = min([until for until in coming if until > 0], default=1.0)
        return max(0.001, min(soonest + 0.001, POLL if self._running or self._waiting else 1.0))

    def _watch(self) -> None:
        """Remove addresses whose deadline has passed."""
        now = clock()
        for ward in self._wards:
            until = self._deadlines.get(ward.slot)
            if 0 < until <= now and self._seen.get(ward.slot) != until:
                self._seen[ward.slot] = until
                self._remove(ward)
                log.warning("%s: not renewed by the heartbeat process in time; removed", ward.shared.ip)

    def _remove(self, ward: Ward) -> None:
        with contextlib.suppress(OSError):
            change_address(self._netlink, ward.index, "del", ward.shared.address)

    def _bereaved(self) -> None:
        for ward in self._wards:
            self._deadlines.set(ward.slot, 0.0)
            self._remove(ward)
        log.error("the heartbeat process has exited; removing every shared address")
        for request in list(self._started.values()):
            self._take(request.model_copy(update={"number": 0, "arguments": ("stop",)}))
        self._finish()

    def _finish(self) -> None:
        while self._running or self._waiting:
            time.sleep(POLL)
            self._reap()

    # ------------------------------------------------------------------------------------------------------- programs

    def _hear(self, message: bytes) -> None:
        try:
            if len(message) > MAX_REQUEST:
                raise BadRequest("the request is too long")
            request = Request.parse(message, self._programs)
            if len(self._running) + sum(map(len, self._waiting.values())) >= MOST_WAITING:
                raise BadRequest("too many programs are running")
        except BadRequest as error:
            log.error("refusing to run a program for the heartbeat process: %s", error)
            number = number_of(message)
            if number is not None:
                self._answer(number, FAILED)
            return
        self._take(request)

    def _take(self, request: Request) -> None:
        queue = request.queue or str(request.number)
        if queue in self._running or len(self._running) >= MOST_RUNNING:
            self._waiting.setdefault(queue, []).append(request)
        else:
            self._start(queue, request)

    def _start(self, queue: str, request: Request) -> None:
        program = request.program
        if request.arguments == ("start",):
            self._started[program] = request
        elif request.arguments == ("stop",):
            self._started.pop(program, None)
        try:
            process = subprocess.Popen(
                [program, *request.arguments],
                env=_environment(request.environment),
                stdin=subprocess.DEVNULL,
                stdout=2,  # to the log
                start_new_session=True,
            )
        except OSError as error:
            log.error("cannot run %s: %s", program, (error.strerror or "").lower())
            self._answer(request.number, FAILED)
            return
        self._running[queue] = _Running(request.number, process, clock() + request.timeout)

    def _reap(self) -> None:
        for queue, running in list(self._running.items()):
            status = running.process.poll()
            if status is None:
                if clock() >= running.kill_at:
                    running.kill_at = float("inf")
                    log.error("%s took too long and was killed", running.process.args)
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(running.process.pid, signal.SIGKILL)
                continue
            del self._running[queue]
            self._answer(running.number, status if status >= 0 else FAILED)
        for queue in [queue for queue in self._waiting if queue not in self._running]:
            if len(self._running) < MOST_RUNNING:
                self._start(queue, self._waiting[queue].pop(0))
                if not self._waiting[queue]:
                    del self._waiting[queue]

    def _answer(self, number: int, status: int) -> None:
        with contextlib.suppress(OSError):
            self._socket.send(json.dumps([number, status]).encode())


def clock() -> float:
    """Seconds of a clock that continues while a process, or the machine, is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _environment(more: Mapping[Any, str]) -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **more}
