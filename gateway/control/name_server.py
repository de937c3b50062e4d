"""What the processes of the name server report, as one report."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Final

from gateway.admin import report_json
from gateway.process.bulletin import Bulletin
from gateway.reports import DnsReport

SILENT: Final = 3.0
"""Seconds after which the report of a process is stale: it writes two a second."""


class NameServer:
    """Reads the bulletins of all processes that there can be."""

    def __init__(self, bulletins: Sequence[Bulletin]) -> None:
        self._bulletins = bulletins

    def report(self) -> DnsReport | None:
        """The sum; None: no process has reported lately.

        The counters of processes that have ended stay in the sum: a counter never decreases.
        """
        found = [(report, fresh) for bulletin in self._bulletins for report, fresh in _read(bulletin)]
        ready = [report for report, fresh in found if fresh and report.processes]
        if not ready:
            return None
        others = [report for report, _ in found if report is not ready[0]]
        counted = reduce(DnsReport.with_counts_of, others, ready[0])
        return replace(
            counted,
            tcp_connections=sum(one.tcp_connections for one in ready),
            processes=len(ready),
            resolvers=tuple(dict.fromkeys(ip for one in ready for ip in one.resolvers)),
        )


def _read(bulletin: Bulletin) -> list[tuple[DnsReport, bool]]:
    """The last report of a process, if there was one, and whether it is fresh."""
    fresh = bulletin.read(SILENT)
    said = fresh if fresh is not None else bulletin.read()
    with contextlib.suppress(report_json.Unreadable):  # a compromised process can write anything there
        return [(report_json.dns(said), fresh is not None)] if said is not None else []
    return []
