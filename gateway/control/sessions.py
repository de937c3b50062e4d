"""Control's report on sessions and on the clients that wait for one."""

import time
from math import ceil
from typing import Final

from gateway.config.snapshot import Snapshot
from gateway.reports import PlaceReport, SessionsReport, ShareReport
from qos.sessions import SessionTable

CLOSED: Final = 10_000_000_000
"""Nanoseconds for which no session is admitted if control says nothing more: longer than its restart takes."""
LISTED: Final = 10
"""Number of clients at the head of the queue that are shown."""


class Sessions:
    """Reads the workers' session table, for the newest snapshot."""

    def __init__(self, table: SessionTable) -> None:
        self._table = table
        self._snapshot: Snapshot | None = None

    def apply(self, snapshot: Snapshot) -> None:
        """Use a snapshot from now on."""
        self._snapshot = snapshot

    def close(self, *, closed: bool) -> None:
        """Let no client get a session, or let them again; to be repeated while it holds."""
        self._table.close_until(time.monotonic_ns() + CLOSED if closed else 0)

    def report(self, cluster: ShareReport | None) -> SessionsReport | None:
        """The data of `gateway status` on sessions; None: sessions are not limited."""
        model = self._snapshot.site.qos.sessions if self._snapshot is not None else None
        if model is None:
            return None
        room = model.waiting_room
        refresh = ceil(room.refresh) if room is not None else 1
        figures = self._table.figures(time.monotonic_ns(), ceil(model.idle), refresh)
        most = model.max or figures["measured_max"]
        queue = self._table.listed(time.monotonic_ns(), ceil(model.idle), refresh, LISTED) if room is not None else []
        return SessionsReport(
            **figures,
            queue=tuple(PlaceReport(place=place, silent=silent, present=present) for place, silent, present in queue),
            max=most,
            auto=model.max == 0,
            places=room.places if room is not None else 0,
            cluster=cluster,
        )
