"""The gateway's report about itself, for the Unix socket and the admin listener."""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

import psutil

from gateway import __version__
from gateway.admin import exposition, metrics, probes, report_json
from gateway.board import Board
from gateway.config.snapshot import Snapshot
from gateway.process.bulletin import Bulletin
from gateway.process.supervisor_status import silences
from gateway.reports import ControlReport, GatewayReport, HeartbeatReport, ProcessReport, StateReport, WorkerReport

FRESH: Final = 0.25
"""Seconds for which a page of metrics is reused, so that frequent scrapes cost nothing."""
SILENT: Final = 3.0
"""Seconds after which the heartbeat's last report is stale: it writes two a second."""

Answer = tuple[int, str, str]
"""Status, content type, body."""

_log = logging.getLogger("gateway.control")


class OperationsReport:
    """Reports on the newest snapshot. `known` is called for control's data on servers, sites and datagrams."""

    def __init__(self, board: Board, tree: Bulletin, heartbeat: Bulletin, known: Callable[[], ControlReport]) -> None:
        self._board = board
        self._tree = tree
        self._heartbeat = heartbeat
        self._known = known
        self._snapshot: Snapshot | None = None
        self._page: tuple[float, str] = (float("-inf"), "")
        self._said: dict[str, str] = {}

    def apply(self, snapshot: Snapshot) -> None:
        """Report on a snapshot from now on."""
        self._snapshot = snapshot

    def report(self) -> GatewayReport:
        """The data of `gateway status` on processes and servers."""
        state = self._state()
        processes = (_process(name, pid) for name, pid in state.tree.processes.items())
        return GatewayReport(
            **vars(state), **vars(self._known()), processes=tuple(found for found in processes if found is not None)
        )

    def _state(self) -> StateReport:
        """The part for frequent probes."""
        assert self._snapshot is not None  # noqa: S101 - nothing is answered before the first one
        tree = report_json.tree(self._tree.read())
        silent = silences(self._board, tree.workers)
        return StateReport(
            program=__version__,
            node=self._snapshot.site.node,
            cluster=self._snapshot.site.cluster is not None,
            tree=tree,
            workers=tuple(WorkerReport(number=number, silent=round(age, 3)) for number, age in silent.items()),
        )

    def overheard(self) -> HeartbeatReport | None:
        """The report of the heartbeat process; None: there is none, or it is stale."""
        assert self._snapshot is not None  # noqa: S101 - as above
        said = self._heartbeat.read(SILENT) if self._snapshot.site.cluster is not None else None
        with contextlib.suppress(report_json.Unreadable):  # a compromised process can write anything there
            return report_json.heartbeat(said) if said is not None else None
        return None

    def metrics(self) -> Answer:
        """The page of metrics."""
        made, page = self._page
        now = time.monotonic()
        if now - made > FRESH:
            page = metrics.text(self.report(), self.overheard())
            self._page = now, page
        return 200, exposition.CONTENT_TYPE, page

    def healthz(self) -> Answer:
        """Whether every process works."""
        return self._verdict("healthy", probes.healthy(self._state(), self.overheard()))

    def readyz(self) -> Answer:
        """Whether requests are welcome."""
        return self._verdict("ready", probes.ready(self._state(), self._known(), self.overheard()))

    def _verdict(self, what: str, problem: str) -> Answer:
        """The reason goes to the log only: probes need no token."""
        if self._said.get(what, "") != problem:
            said = f"not {what}: {problem}" if problem else what
            _log.log(logging.WARNING if problem else logging.INFO, "%s", said)
            self._said[what] = problem
        return 503 if problem else 200, "text/plain; charset=utf-8", f"not {what}\n" if problem else f"{what}\n"


def _process(name: str, pid: int) -> ProcessReport | None:
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
        return ProcessReport(name=name, pid=pid, cpu_seconds=times.user + times.system, resident_bytes=memory.rss)
    return None
