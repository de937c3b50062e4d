"""The gateway's report about itself, for the Unix socket and the admin listener."""

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

import psutil

from gateway import __version__
from gateway.admin import exposition, metrics, probes
from gateway.admin.server import Answer, Server
from gateway.board import Board
from gateway.config.snapshot import Snapshot
from gateway.process.bulletin import Bulletin
from gateway.process.supervisor_status import silences

FRESH: Final = 0.25
"""Seconds for which a page of metrics is reused, so that frequent scrapes cost nothing."""
SILENT: Final = 3.0
"""Seconds after which the heartbeat's last report is stale: it writes two a second."""

_log = logging.getLogger("gateway.control")


class OperationsReport:
    """Reports on the newest snapshot. `known` is called for control's data on servers, sites and datagrams."""

    def __init__(
        self, board: Board, tree: Bulletin, heartbeat: Bulletin, known: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._board = board
        self._tree = tree
        self._heartbeat = heartbeat
        self._known = known
        self._snapshot: Snapshot | None = None
        self._server: Server | None = None
        self._page: tuple[float, str] = (float("-inf"), "")
        self._said: dict[str, str] = {}

    def apply(self, snapshot: Snapshot, sock: socket.socket | None) -> None:
        """Report on a snapshot from now on; `sock` listens at its `admin.listen`, if that is new."""
        self._snapshot = snapshot
        admin = snapshot.site.admin
        token = snapshot.files[admin.token_file].strip() if admin.token_file is not None else None
        if self._server is not None and (sock is not None or admin.listen is None):
            self._server.close()
            self._server = None
        if sock is not None:
            self._server = Server(sock, self._pages, token)
        elif self._server is not None:
            self._server.token = token

    def close(self) -> None:
        """Stop reporting."""
        if self._server is not None:
            self._server.close()

    @cached_property
    def _pages(self) -> dict[str, Callable[[], Answer]]:
        return {"/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz}

    def report(self) -> dict[str, Any]:
        """The data of `gateway status` on processes and servers, as JSON."""
        gateway = self._gateway()
        processes = gateway["tree"]["processes"].items()
        return {
            **gateway,
            "processes": [found for name, pid in processes if (found := _process(name, pid))],
            **self._known(),
        }

    def _gateway(self) -> dict[str, Any]:
        """The part that needs no queries of servers or processes: probes are frequent, and need no token."""
        assert self._snapshot is not None  # noqa: S101 - nothing is answered before the first one
        tree = self._tree.read() or {}
        return {
            "program": __version__,
            "node": self._snapshot.site.node,
            "cluster": self._snapshot.site.cluster is not None,
            "tree": tree,
            "workers": [
                {"number": number, "silent": round(silent, 3)} for number, silent in silences(self._board, tree).items()
            ],
        }

    def _overheard(self) -> dict[str, Any] | None:
        """The report of the heartbeat process; None: there is none, or it is stale."""
        assert self._snapshot is not None  # noqa: S101 - as above
        return self._heartbeat.read(SILENT) if self._snapshot.site.cluster is not None else None

    def _metrics(self) -> Answer:
        made, page = self._page
        now = time.monotonic()
        if now - made > FRESH:
            page = metrics.text(self.report(), self._overheard())
            self._page = now, page
        return 200, exposition.CONTENT_TYPE, page

    def _healthz(self) -> Answer:
        gateway = self._gateway()
        return self._verdict("healthy", probes.healthy(gateway, self._overheard(), cluster=gateway["cluster"]))

    def _readyz(self) -> Answer:
        return self._verdict("ready", probes.ready({**self._gateway(), **self._known()}, self._overheard()))

    def _verdict(self, what: str, amiss: str) -> Answer:
        """The reason goes to the log only: probes need no token."""
        if self._said.get(what, "") != amiss:
            _log.log(logging.WARNING if amiss else logging.INFO, "%s%s", what if not amiss else f"not {what}: ", amiss)
            self._said[what] = amiss
        return 503 if amiss else 200, "text/plain; charset=utf-8", f"not {what}\n" if amiss else f"{what}\n"


def _process(name: str, pid: int) -> dict[str, Any] | None:
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
        return {"name": name, "pid": pid, "cpu_seconds": times.user + times.system, "resident_bytes": memory.rss}
    return None
