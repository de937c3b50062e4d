"""The configuration in use: a site file that was read and checked, and the files that were opened for it."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

from gateway.config import CapacityError, ConfigError, Loaded, Site, Snapshot, certificate_files, discovery, load
from gateway.config.certificate_files import RefusedFile
from gateway.config.discovery import Found, Question
from gateway.config.file_stamp import Stamps
from gateway.config.loader import renew_client_cas, renew_maps, renew_users
from gateway.config.overrides import NODE, Overrides
from gateway.explain.required import require
from gateway.hardening import account as accounts
from gateway.hardening import kernel, roles
from gateway.hardening.account import Account, NoAccount
from gateway.hardening.confinement import Bounds, protect, shortcomings
from gateway.secrets.pairs import Expiry
from gateway.secrets.vault import BadState, Gathered, Vault, Vaults, gather
from gateway.supervisor import last_good, override_file
from gateway.supervisor.last_good import NoCopy
from gateway.supervisor.roles import Role
from gateway.supervisor.sockets import Sockets, StartError
from gateway.supervisor.startup_lookup import addresses, find_servers
from gateway.system import output, regular_file

log = logging.getLogger(__name__)

T = TypeVar("T")

NICE: Final = 10
"""How far those who carry traffic go before the reading of a large site file beside them (nice(2))."""


SHOWN: Final = 20
"""Names in a message."""
REFUSALS: Final = (ConfigError, CapacityError, StartError, BadState)
"""Why a site file is refused."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a site file is not in use: its problems, and what changed since the one that is."""

    problems: str
    changes: str
    last_good: float = 0.0
    """When the last good configuration was in use with which the gateway has started instead, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """`found`: the name service's answers for dns: entries. `snapshot`: for the processes."""

    loaded: Loaded
    account: Account | None
    found: Found
    snapshot: Snapshot
    vaults: Vaults
    sockets: Sockets
    log_fd: int | None
    stamps: Stamps
    """Of the certificates' files, before they were read."""
    expiry: Expiry
    warnings: tuple[object, ...] = ()
    refused: Refused | None = None
    """The site file as it was at the start, if the gateway started with the last good configuration instead."""

    @property
    def site(self) -> Site:
        """The site, with the servers that were found."""
        return self.snapshot.site

    @classmethod
    def first(cls, path: Path, received: Sockets) -> Self:
        """Read the site file and open everything, going on with what was `received`. Raises one of REFUSALS."""
        return cls._first(load(path, addresses, certificates=False), received)

    @classmethod
    def last_good(cls, path: Path, why: Exception) -> Self:
        """The last good configuration, because the site file is refused for the reason `why`. Raises NoCopy."""
        kept = last_good.find(path)
        try:
            found = cls._first(load(path, addresses, certificates=False, saved=kept.saved), Sockets())
        except REFUSALS as error:
            raise NoCopy(f"the last good configuration, of {kept.when}, cannot be used: {error}") from None
        log.error("the site file is refused:\n%s", why)
        changes = last_good.changes(kept.saved, path)
        log.error("STARTED WITH THE LAST GOOD CONFIGURATION of %s, from %s; changed since:\n%s", kept.when, kept.path,
                  "\n".join(line for line in changes.splitlines() if line[0] not in "+-") or "nothing")  # fmt: skip
        return replace(found, refused=Refused(str(why), changes, kept.at))

    @classmethod
    def _first(cls, loaded: Loaded, received: Sockets) -> Self:
        bounds = Bounds.of(loaded.site)
        protect(bounds)
        account = _account(loaded.site)
        require(loaded, account)
        stamps = certificate_files.stamps(loaded.site)
        gathered = gather(loaded, None)
        log_fd = None
        try:
            shared = accounts.doubt(loaded.site.user)
            for warning in (*loaded.warnings, *_doubts(gathered), *filter(None, [shared]), *shortcomings(bounds)):
                log.warning("%s", warning)
            found = _look_up({}, loaded.site, account)
            snapshot = Snapshot.first(loaded, found).with_overrides(_overrides(loaded))
            warn_of_gaps(snapshot.questions, found)
            log_fd = open_log(loaded.site)
            sockets = received.adapt(loaded)
        except REFUSALS:
            gathered.vaults.close()
            close_log(log_fd)
            raise
        received.close_except(sockets)
        return cls(loaded, account, found, snapshot, gathered.vaults, sockets, log_fd, stamps, gathered.expiry)

    def read_again(self, path: Path, leaving: Mapping[str, AbstractSet[int]]) -> Self:
        """Read the site file and all that belongs to it; `self` stays as it is. `leaving`: see Sockets.adapt.

        Raises one of REFUSALS.
        """
        loaded = _in_background(partial(load, path, addresses, certificates=False))
        account = _account(loaded.site)
        require(loaded, account)
        found = _look_up(self.found, loaded.site, account)
        snapshot = self.snapshot.next(loaded, found)
        stamps = certificate_files.stamps(loaded.site)
        gathered = gather(loaded, self.vaults)
        log_fd = self.log_fd
        try:
            if loaded.site.log_path != self.site.log_path:
                log_fd = open_log(loaded.site)
            sockets = self.sockets.adapt(loaded, leaving)
        except StartError:
            gathered.vaults.close()
            if log_fd != self.log_fd:
                close_log(log_fd)
            raise
        warnings = (*loaded.warnings, *_doubts(gathered))
        vaults, expiry = gathered.vaults, gathered.expiry
        return type(self)(loaded, account, found, snapshot, vaults, sockets, log_fd, stamps, expiry, warnings)

    def renew_certificates(self) -> tuple[Self, tuple[RefusedFile, ...], bool]:
        """The same with the certificates as they are on disk now, what is wrong with those that were not taken, and
        whether any was.

        Raises ConfigError, BadState; then `renewal_failed` gives what to go on with.
        """
        stamps = certificate_files.stamps(self.loaded.site)
        gathered = gather(self.loaded, self.vaults, forgiving=True)
        for warning in _doubts(gathered):
            log.warning("%s", warning)
        loaded, kept = renew_client_cas(self.loaded)
        snapshot = replace(self.snapshot, digest=loaded.digest, files=loaded.files)
        renewed = replace(self, loaded=loaded, snapshot=snapshot, vaults=gathered.vaults, stamps=stamps)
        changed = gathered.changed or loaded is not self.loaded
        return replace(renewed, expiry=gathered.expiry), (*gathered.kept, *kept), changed

    def renewal_failed(self) -> Self:
        """The same, until the files change again."""
        return replace(self, stamps=certificate_files.stamps(self.loaded.site))

    def renew_maps(self) -> tuple[Self, dict[str, str]]:
        """The same with the maps as their files are now, and what loader.renew_maps says of each."""
        loaded, read = _in_background(partial(renew_maps, self.loaded))
        snapshot = replace(self.snapshot, digest=loaded.digest).with_maps(loaded.maps).with_database(loaded.database)
        return replace(self, loaded=loaded, snapshot=snapshot), read

    def renew_users(self) -> tuple[Self, dict[Path, str]]:
        """The same with the files of users as they are now, and what loader.renew_users says of each."""
        loaded, read = renew_users(self.loaded)
        snapshot = replace(self.snapshot, digest=loaded.digest, files=loaded.files)
        return replace(self, loaded=loaded, snapshot=snapshot), read

    def vault_of(self, role: Role) -> Vault | None:
        """The one that a process of the role gets."""
        if role.traffic:
            return self.vaults.workers
        return self.vaults.control if role.shows else None

    def with_log(self, log_fd: int | None) -> Self:
        """The same with another access log."""
        return replace(self, log_fd=log_fd)

    def with_overrides(self, overrides: Overrides) -> Self:
        """The same with other overrides."""
        return replace(self, snapshot=self.snapshot.with_overrides(overrides))

    def discover(self, news: Found) -> Self:
        """The same site file with the name service's present answers; the snapshot stays if it has no room for them."""
        news = {question: members for question, members in news.items() if question in self.snapshot.questions}
        if news.items() <= self.found.items():
            return self
        found = {**self.found, **news}
        try:
            snapshot = self.snapshot.follow(self.loaded, found)
        except CapacityError as error:
            log.error("keeping the servers found by name: %s", error)
            return replace(self, found=found)
        warn_of_gaps(news, found)
        return replace(self, found=found, snapshot=snapshot)


def _doubts(gathered: Gathered) -> list[str]:
    """Warnings about certificates."""
    return [*gathered.warnings, *gathered.expiry.concerns(time.time())]


def _overrides(loaded: Loaded) -> Overrides:
    """What commands have set before this start."""
    try:
        found = override_file.find(loaded)
    except (OSError, ValueError) as error:
        log.error("what `gateway drain` and other commands have set is lost: %s", error)
        return Overrides()
    if found.of:
        names = ", ".join("this gateway" if name == NODE else name for name in sorted(found.of)[:SHOWN])
        log.warning("in force, set by commands over the site file: %s; see gateway status", names)
    return found


def _look_up(known: Found, site: Site, account: Account | None) -> Found:
    """The known answers for the dns: entries of `site`, and new ones for those that are new."""
    questions = discovery.questions(site)
    kept = {question: members for question, members in known.items() if question in questions}
    return {**kept, **find_servers(questions - kept.keys(), site, account)}


def warn_of_gaps(questions: Iterable[Question], found: Found) -> None:
    """Warn of the names that have no servers."""
    named = {question.address for question, members in found.items() if members}
    for address in sorted({question.address for question in questions} - named):
        log.warning("%s: the name service does not know a server of this name", address)


def open_log(site: Site) -> int | None:
    """The file of the access log, None without one. Raises StartError."""
    path = site.log_path
    if path is None:
        return None
    if path == "-":
        return output.unhurried(1)
    try:
        return regular_file.append(Path(path), 0o640)
    except OSError as error:
        raise StartError(f"cannot write the access log {path}: {(error.strerror or '').lower()}") from None


def close_log(fd: int | None) -> None:
    """Close it, unless it is standard output."""
    if fd is not None and fd > 2:
        os.close(fd)


def _account(site: Site) -> Account | None:
    """Return the account to switch to, or None to stay the present one. Raises StartError."""
    needed = roles.HEARTBEAT.capabilities or frozenset()
    if os.geteuid() != 0 and site.cluster is not None and not needed <= kernel.capabilities():
        names = " and ".join(roles.CAPABILITIES[number] for number in sorted(needed))
        raise StartError(f"sharing addresses (cluster) needs {names}, or root: see conf/gateway-cluster.conf")
    try:
        return accounts.of(site.user)
    except NoAccount as error:
        raise StartError(str(error)) from None


def _in_background(work: Callable[[], T]) -> T:
    """Run long work in a thread of low priority: a process would need privileges to raise its priority again."""
    with ThreadPoolExecutor(1, initializer=os.nice, initargs=(NICE,)) as thread:
        return thread.submit(work).result()
