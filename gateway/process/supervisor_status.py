"""The supervisor's status of its process tree, for other processes to read."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

from gateway.board import Board
from gateway.config.certificate_files import RefusedFile
from gateway.process.bulletin import Bulletin
from gateway.reports import (
    CertificateReport,
    CertificatesReport,
    MapsReport,
    RefusedFileReport,
    ReloadReport,
    TreeReport,
)
from gateway.secrets.pairs import Expiry

STUCK: Final = 1.5
"""Seconds without a sign of life on the board after which a worker does not work."""

PROBLEMS: Final = 4000
"""Characters that are kept of why a reload was refused."""

MOST_REFUSED: Final = 20
"""Maps, and files of certificates, that are named with what is wrong with them,"""
LONGEST: Final = 500
"""in so many characters."""

COUNTERS: Final = ("reloads", "renewals", "map_renewals", "deaths", "bad_reports")
"""The Counters of SupervisorStatus."""
UPGRADES_FAILED: Final = "upgrades_failed"

State = Literal["starting", "taking over", "running", "stopping"]
"""Taking over: an upgrade, and the gateway before still carries the traffic."""


def silences(board: Board, workers: Iterable[int]) -> dict[int, float]:
    """Seconds since each of `workers` last updated its timestamp, by number.

    The numbers come from the supervisor and may have gaps, because a draining worker keeps its own.
    """
    now = time.monotonic()
    return {number: now - board.pulse(number) for number in workers}


@dataclass(slots=True)
class SupervisorStatus:
    """`reloads` counts "accepted" and "refused", `deaths` unexpected exits by process name, `bad_reports`
    processes that were killed because of an invalid message.
    """

    bulletin: Bulletin = field(default_factory=Bulletin)
    started: float = field(default_factory=time.time)
    reloads: Counter[str] = field(default_factory=lambda: Counter(accepted=0, refused=0))
    renewals: Counter[str] = field(default_factory=lambda: Counter(accepted=0, refused=0))
    """Changes of certificates on disk, by what became of them."""
    map_renewals: Counter[str] = field(default_factory=lambda: Counter(accepted=0, refused=0))
    """Changes of the files of maps, by what became of them."""
    refused_maps: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with the files of maps whose previous content is in use, by the maps' names."""
    certificates: Expiry = field(default_factory=Expiry)
    refused_certificates: tuple[RefusedFileReport, ...] = ()
    """Files of certificates, and of clients' CAs, that are not taken up."""
    deaths: Counter[str] = field(default_factory=Counter)
    bad_reports: Counter[str] = field(default_factory=Counter)
    upgrades_failed: int = 0
    loaded: float = field(default_factory=time.time)
    """When the site file was applied, in seconds since 1970."""
    sandbox: Mapping[str, bool] = field(default_factory=dict)
    """Parts of the confinement of processes (hardening/confinement.py), and whether they are in force."""
    refused: float = 0.0
    """When the last start or reload was refused, if no reload was accepted since, in seconds since 1970."""
    problems: str = ""
    """Why it was refused."""
    changes: str = ""
    """What has changed in the files of the configuration since it was applied."""
    last_good: float = 0.0
    """When the last good configuration was in use with which the gateway started, if no reload was accepted since."""
    history: int | None = None
    """The version of the history that is in force; None: it is not there, or not yet."""

    def counted(self) -> dict[str, dict[str, int]]:
        """All that is counted, to hand over at an upgrade."""
        counters = {name: dict(getattr(self, name)) for name in COUNTERS}
        return {**counters, UPGRADES_FAILED: {"": self.upgrades_failed}}

    def go_on(self, counted: Mapping[str, Mapping[str, int]]) -> None:
        """Count from what the supervisor before has counted; what this version does not know is left out."""
        for name in COUNTERS:
            getattr(self, name).update(counted.get(name, {}))
        self.upgrades_failed += sum(counted.get(UPGRADES_FAILED, {}).values())

    def reload(self, problems: str = "", changes: str = "") -> None:
        """Note how a reload went: it was refused if there are problems."""
        self.reloads["refused" if problems else "accepted"] += 1
        if problems:
            self._refuse(problems, changes)
        else:
            self.loaded, self.problems, self.changes, self.last_good = time.time(), "", "", 0.0
            self.history = None

    def renew_maps(self, read: Mapping[str, str]) -> None:
        """Note which maps were read again, each with what is wrong with it; empty: it was taken up."""
        for wrong in read.values():
            self.map_renewals["refused" if wrong else "accepted"] += 1
        together = {**self.refused_maps, **read}
        self.refused_maps = {name: wrong[:LONGEST] for name, wrong in together.items() if wrong}

    def renew_certificates(self, refused: Sequence[RefusedFile], *, changed: bool) -> list[RefusedFile]:
        """Note all files of certificates that are refused now, and whether others were taken up.

        Returns those refused by this change: where none was taken up, it is they that have changed.
        """
        since = {(one.file, one.why): one.since for one in self.refused_certificates}
        fresh = [one for one in refused if not changed or (one.file, one.why[:LONGEST]) not in since]
        now = time.time()
        first = {one.file: one.since for one in reversed(self.refused_certificates)}
        self.refused_certificates = tuple(
            RefusedFileReport(file=one.file, why=one.why[:LONGEST], since=first.get(one.file, now)) for one in refused
        )
        self.renewals["refused"] += bool(fresh)
        self.renewals["accepted"] += changed or not refused
        return fresh

    def start_with_last_good(self, problems: str, changes: str, last_good: float) -> None:
        """Note that the site file was refused at the start: the configuration in use is older."""
        self._refuse(problems, changes)
        self.last_good = last_good

    def _refuse(self, problems: str, changes: str) -> None:
        self.refused, self.problems, self.changes = time.time(), problems[:PROBLEMS], changes[:PROBLEMS]

    @property
    def last_reload(self) -> ReloadReport:
        """The last reload."""
        if not self.problems:
            return ReloadReport(at=self.loaded, accepted=True, history=self.history)
        return ReloadReport(
            at=self.loaded,
            accepted=False,
            refused_at=self.refused,
            problems=self.problems,
            changes=self.changes,
            last_good=self.last_good or None,
            history=self.history,
        )

    def post(self, state: State, workers: Iterable[int], children: Mapping[str, int]) -> None:
        """Publish the status. `workers`: their numbers; `children`: process ids by name."""
        report = TreeReport(
            state=state,
            started=self.started,
            reloads=dict(self.reloads),
            last_reload=self.last_reload,
            certificates=CertificatesReport(
                count=self.certificates.count,
                soonest=tuple(
                    CertificateReport(file=file, not_before=begin, not_after=end)
                    for file, begin, end in self.certificates.soonest
                ),
                renewals=dict(self.renewals),
                refused=self.refused_certificates[:MOST_REFUSED],
            ),
            maps=MapsReport(refused=_some(self.refused_maps), renewals=dict(self.map_renewals)),
            workers=tuple(sorted(workers)),
            processes=dict(children),
            deaths=dict(self.deaths),
            bad_reports=dict(self.bad_reports),
            upgrades_failed=self.upgrades_failed,
            sandbox=dict(self.sandbox),
        )
        self.bulletin.post(asdict(report))


def _some(refused: Mapping[str, str]) -> dict[str, str]:
    return dict(list(refused.items())[:MOST_REFUSED])
