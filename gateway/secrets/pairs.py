"""Reads certificates with their keys, and of those that did not change since the last time none."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from gateway.config import certificate_files
from gateway.config.certificate import Validity
from gateway.config.certificate_files import Faults, Managed, PairFiles, RefusedFile, Source
from gateway.config.model import OwnCertificate
from gateway.config.problem import Fault
from gateway.proxy.tls import Identity
from gateway.secrets.exported_key import export
from gateway.secrets.keys import fingerprint
from gateway.secrets.placeholder import self_signed

_CERTIFICATE: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]*CERTIFICATE)-----.*?-----END \1-----\r?\n?", re.DOTALL)
"""In a file that may have the private key as well."""
SHOWN: Final = 100
"""Certificates in status and metrics: those that are not valid, then those that expire first."""
PATH_CHARACTERS: Final = 200
TOLD: Final = 50
"""Most warnings, and most errors, about certificates at a time."""

PairKey: TypeAlias = tuple[Path, Path]
"""The files of a certificate and its key."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain in PEM and its private key as tls.exported; `digest` tells it from others."""

    cert: bytes
    key: bytes | memoryview
    digest: str
    names: tuple[str, ...] = ()
    """See certificate.Facts."""
    kind: str = ""
    ocsp: bytes = b""
    ocsp_until: int = 0
    """Seconds since 1970."""
    not_before: int = 0
    not_after: int = 0
    disorder: str = ""
    stamp: tuple[tuple[int, ...], ...] = ()
    """Of its files before they were read; see PairFiles."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """What status and metrics say of certificates: how many there are, and (file, not_before, not_after) of some."""

    count: int = 0
    soonest: tuple[tuple[str, int, int], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it for a bulletin."""
        return {"count": self.count, "soonest": [list(one) for one in self.soonest]}

    def concerns(self, now: float) -> list[str]:
        """Return the warnings about those that are not valid, or soon will not be."""
        found = [(file, Validity(*times).concern(now)) for file, *times in self.soonest]
        return at_most([f"{file}: {text}" for file, text in found if text])


@dataclass(slots=True)
class PairReader:
    """Reads the items of a site file, one after another.

    before: the pairs so far, and the keys of those by directory: a pair is taken from there if its files did not
    change. `forgiving`: so is one whose files are wrong now, and a new one is left out.
    """

    before: Mapping[PairKey, Pair]
    directories_before: Mapping[Path, tuple[PairKey, ...]]
    forgiving: bool = False
    pairs: dict[PairKey, Pair] = field(default_factory=dict)
    directories: dict[Path, tuple[PairKey, ...]] = field(default_factory=dict)
    problems: list[tuple[int, str, str]] = field(default_factory=list)
    """The number of an item, the key in it, and what is wrong."""
    kept: list[RefusedFile] = field(default_factory=list)
    """Files whose content before is still in use, or which are left out."""
    warnings: list[str] = field(default_factory=list)
    read: int = 0
    """How many were read."""

    def add(self, number: int, source: Source) -> None:
        """Read the item with this number."""
        if isinstance(source, Managed):
            self._add_managed(number, source)
            return
        directory = source.directory if isinstance(source, OwnCertificate) else None
        try:
            listing = certificate_files.listed(source)
        except Fault as fault:
            if directory is None or not self._keep_directory(directory, fault):
                self.problems.append((number, "directory", str(fault)))
            return
        found = [key for pair in listing.pairs if (key := self._add_pair(number, pair)) is not None]
        self.warnings += listing.ignored
        if directory is not None:
            self.directories[directory] = tuple(found)
            if not found:
                self.problems.append((number, "directory", f"{directory}: none of its certificates can be used"))

    def _add_managed(self, number: int, source: Managed) -> None:
        """Read those that ACME has got; a wrong file is as none, because the acme process gets another.

        Before there is one, a certificate that is signed by itself stands in, so that the frontend answers.
        """
        forgiving, self.forgiving = self.forgiving, True
        found = [key for pair in certificate_files.listed(source).pairs if (key := self._add_pair(number, pair))]
        self.forgiving = forgiving
        if not found and source.alone:
            key = source.place, source.place
            self.pairs[key] = self.before.get(key) or placeholder(source.names)
            found = [key]
        self.directories[source.place] = tuple(found)

    @property
    def changed(self) -> bool:
        """Whether there are other certificates now than before."""
        return self.read > 0 or self.pairs.keys() != self.before.keys()

    def expiry(self) -> Expiry:
        """Return what status and metrics say."""
        now = time.time()
        found = [(str(files[0]), pair) for files, pair in self.pairs.items() if pair.not_after]
        found.sort(key=lambda one: (one[1].not_before <= now, one[1].not_after))
        shown = [(name[-PATH_CHARACTERS:], pair.not_before, pair.not_after) for name, pair in found[:SHOWN]]
        return Expiry(len(found), tuple(shown))

    def _keep_directory(self, directory: Path, fault: Fault) -> bool:
        before = self.directories_before.get(directory, ())
        if not self.forgiving or not before:
            return False
        self.kept.append(RefusedFile(str(directory), str(fault)))
        self.directories[directory] = before
        self.pairs.update((key, self.before[key]) for key in before)
        return True

    def _add_pair(self, number: int, files: PairFiles) -> PairKey | None:
        key = files.cert, files.key
        if key in self.pairs:
            return key
        before, stamp = self.before.get(key), files.stamp
        if before is not None and before.stamp == stamp:
            self.pairs[key] = before
        else:
            try:
                self.pairs[key] = _read(files, stamp)
                self.read += 1
            except Faults as error:
                if not self.forgiving or (before is None and not files.listed):
                    self.problems += [(number, str(files.at(one)[0]), files.said(one)) for one in error.faults]
                    return None
                then = "it is left out" if before is None else "the previous one stays in use"
                self.kept += [RefusedFile(str(files.file_of(one)), f"{one}; {then}") for one in error.faults]
                if before is None:
                    return None
                self.pairs[key] = before
        if self.pairs[key].disorder:
            self.warnings.append(f"{files.cert}: {self.pairs[key].disorder}")
        return key


def placeholder(names: tuple[str, ...]) -> Pair:
    """A pair that is signed by itself; no certificate to status and metrics, which have the times of real ones."""
    chain, key = self_signed(names)
    return Pair(chain, export(key), fingerprint(chain, key).hex(), (), "ECPublicKey")


def at_most(texts: list[str]) -> list[str]:
    """Return the first TOLD of texts, and how many more there are."""
    more = [f"and {len(texts) - TOLD:,} more"] if len(texts) > TOLD else []
    return texts[:TOLD] + more


def _read(files: PairFiles, stamp: tuple[tuple[int, ...], ...]) -> Pair:
    """Read one. Raises Faults."""
    contents = certificate_files.read(files)
    chain = b"".join(match[0] for match in _CERTIFICATE.finditer(contents.cert))
    try:
        key = export(contents.key)
        Identity(chain, key, (), "").check()
    except ValueError as error:
        certificate_files.check(contents)  # says in detail what is wrong
        raise Faults([Fault(f"the certificate or its key cannot be used: {error}", "cert")]) from None
    facts = certificate_files.facts(contents)
    return Pair(
        chain,
        key,
        fingerprint(chain, key, contents.ocsp).hex(),
        facts.names,
        facts.kind,
        contents.ocsp,
        facts.ocsp_until,
        facts.validity.not_before,
        facts.validity.not_after,
        facts.disorder,
        stamp,
    )
