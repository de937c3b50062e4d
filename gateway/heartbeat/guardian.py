"""The guardian: a small child of the heartbeat process that reads nothing from the network.

It takes addresses down when the heartbeat process is stopped or dies, and it runs the programs that the site file
names, as the heartbeat process itself has given up the rights for that. Only where there are any it stays root.
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

log = logging.getLogger(__name__)

POLL = 0.02
"""Seconds between two looks at programs that run."""
MAX_MESSAGE = 65536
FAILED = 255


@dataclass(frozen=True, slots=True)
class Ward:
    """An address to watch over, and where its deadline is."""

    shared: SharedAddress
    slot: int
    index: int
    """Of the interface that it is on."""


def encode(number: int, run: Run) -> bytes:
    """Return the request to run a program."""
    body = {
        "number": number,
        "program": run.program,
        "arguments": run.arguments,
        "environment": run.environment,
        "timeout": run.timeout,
        "queue": run.queue,
    }
    return json.dumps(body).encode()


@dataclass(slots=True)
class _Running:
    number: int
    process: "subprocess.Popen[bytes]"
    kill_at: float


class Guardian:
    """Runs in its own process until the other end of `sock` is gone. `programs`: the only ones it will run.

    `started`: what an earlier one has started and left running.
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
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._started: dict[str, dict[str, Any]] = {run.program: json.loads(encode(0, run)) for run in started}
        self._netlink = IPRoute()

    def run(self) -> None:
        """Watch until the heartbeat process has ended."""
        while True:
            self._socket.settimeout(self._patience())
            try:
                message = self._socket.recv(MAX_MESSAGE)
            except TimeoutError:
                message = None
            if message == b"":
                self._bereaved()
                return
            if message == b"bye":
                self._finish()
                return
            if message is not None:
                self._take(json.loads(message))
            self._watch()
            self._reap()

    def _patience(self) -> float:
        now = clock()
        coming = [self._deadlines.get(ward.slot) - now for ward in self._wards]
        soonest = min([until for until in coming if until > 0], default=1.0)
        return max(0.001, min(soonest + 0.001, POLL if self._running else 1.0))

    def _watch(self) -> None:
        """Take down what nobody renewed."""
        now = clock()
        for ward in self._wards:
            until = self._deadlines.get(ward.slot)
            if 0 < until <= now and self._seen.get(ward.slot) != until:
                self._seen[ward.slot] = until
                self._remove(ward)
                log.warning("%s: the heartbeat process did not renew it in time: taken down", ward.shared.ip)

    def _remove(self, ward: Ward) -> None:
        with contextlib.suppress(OSError):
            change_address(self._netlink, ward.index, "del", ward.shared.address)

    def _bereaved(self) -> None:
        for ward in self._wards:
            self._deadlines.set(ward.slot, 0.0)
            self._remove(ward)
        log.error("the heartbeat process is gone: every shared address is taken down")
        for request in list(self._started.values()):
            self._take({**request, "number": 0, "arguments": ["stop"]})
        self._finish()

    def _finish(self) -> None:
        while self._running:
            time.sleep(POLL)
            self._reap()

    # ------------------------------------------------------------------------------------------------------- programs

    def _take(self, request: dict[str, Any]) -> None:
        queue = request["queue"] or str(request["number"])
        if queue in self._running:
            self._waiting.setdefault(queue, []).append(request)
        else:
            self._start(queue, request)

    def _start(self, queue: str, request: dict[str, Any]) -> None:
        program, arguments = request["program"], request["arguments"]
        if program not in self._programs:
            log.error("%s is not a program of the site file", program)
            self._answer(request["number"], FAILED)
            return
        if arguments == ["start"]:
            self._started[program] = request
        elif arguments == ["stop"]:
            self._started.pop(program, None)
        try:
            process = subprocess.Popen(
                [program, *arguments],
                env=_environment(request["environment"]),
                stdin=subprocess.DEVNULL,
                stdout=2,  # to the log
                start_new_session=True,
            )
        except OSError as error:
            log.error("cannot run %s: %s", program, (error.strerror or "").lower())
            self._answer(request["number"], FAILED)
            return
        self._running[queue] = _Running(request["number"], process, clock() + request["timeout"])

    def _reap(self) -> None:
        for queue, running in list(self._running.items()):
            status = running.process.poll()
            if status is None:
                if clock() >= running.kill_at:
                    running.kill_at = float("inf")
                    log.error("%s took too long and is killed", running.process.args)
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(running.process.pid, signal.SIGKILL)
                continue
            del self._running[queue]
            self._answer(running.number, status if status >= 0 else FAILED)
            if self._waiting.get(queue):
                self._start(queue, self._waiting[queue].pop(0))

    def _answer(self, number: int, status: int) -> None:
        with contextlib.suppress(OSError):
            self._socket.send(json.dumps([number, status]).encode())


def clock() -> float:
    """Seconds of a clock that runs on while a process, or the machine, is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **more}
