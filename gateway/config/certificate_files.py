"""Certificates on disk: those that a site file names one by one, and directories of them."""

import contextlib
import os
import ssl
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias

from gateway.config import acme, certificate, named_file
from gateway.config.admin import AdminTls
from gateway.config.certificate import Facts
from gateway.config.file_stamp import NONE, Stamp, Stamps, stamp, stamp_of
from gateway.config.model import Certificate, OwnCertificate, Site, Tls
from gateway.config.problem import Fault, Loc, Unreadable

MOST: Final = 50_000
"""Entries of a directory."""
CERTIFICATES: Final = (".crt", ".pem")
CHAIN: Final = "fullchain.pem"
KEY: Final = "privkey.pem"
"""Names of the files in a directory of one certificate, as ACME clients such as certbot write them."""


@dataclass(frozen=True, slots=True)
class Managed:
    """The certificates that the gateway gets for a frontend by ACME: NAME.pem, with the key, in `directory`.

    `names` are the first of each certificate. `alone`: the frontend has no others, so that it needs one to show before
    the first is there.
    """

    directory: Path
    names: tuple[str, ...]
    alone: bool

    def file(self, name: str) -> Path:
        """The file of a name."""
        return self.directory / f"{name}.pem"

    @property
    def place(self) -> Path:
        """What stands for all of them where a directory does."""
        return self.directory / sha256(" ".join(self.names).encode()).hexdigest()


Source: TypeAlias = Certificate | OwnCertificate | AdminTls | Managed
"""An item of the site file: one certificate with its key, a directory, or what ACME is to get."""


@dataclass(frozen=True, slots=True)
class PairFiles:
    """The files of a certificate, its key and an OCSP response; `cert` and `key` may be the same file."""

    cert: Path
    key: Path
    ocsp: Path | None = None
    listed: bool = False
    """Found in a directory, so that the site file does not name it."""

    def within(self, part: str) -> Loc:
        """Return the key of the site file that led to this part: cert, key or ocsp."""
        return ("directory",) if self.listed else (part,)

    def at(self, fault: Fault) -> Loc:
        """Return the key of the site file that led to the faulty file."""
        return ("directory",) if self.listed else fault.at

    def file_of(self, fault: Fault) -> Path:
        """Return the faulty file."""
        return {"key": self.key, "ocsp": self.ocsp}.get(str(fault.at[0]) if fault.at else "") or self.cert

    def said(self, fault: Fault, *, named: bool = False) -> str:
        """Return the message for a fault, which names the file where the site file does not, or if it is to."""
        file = self.file_of(fault)
        return f"{file}: {fault}" if (self.listed or named) and str(file) not in str(fault) else str(fault)

    @property
    def stamp(self) -> tuple[Stamp, ...]:
        """The stamps of all its files."""
        return tuple(map(stamp_of, self.paths))

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files."""
        paths = (self.cert,) if self.cert == self.key else (self.cert, self.key)
        return paths if self.ocsp is None else (*paths, self.ocsp)


@dataclass(frozen=True, slots=True)
class Listing:
    """What there is: the certificates in the order of their names, and texts about files that are ignored."""

    pairs: tuple[PairFiles, ...]
    ignored: tuple[str, ...] = ()


class Faults(ValueError):
    """What is wrong with the files of a certificate, each at its part."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(", ".join(map(str, faults)))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that is not taken up, and why; of a directory that cannot be listed, its name."""

    file: str
    why: str

    def __str__(self) -> str:
        return self.why if self.file in self.why else f"{self.file}: {self.why}"


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a pair's files; `ocsp` is empty without a response."""

    cert: bytes
    key: bytes
    ocsp: bytes


def sources(site: Site) -> Iterator[tuple[Loc, Source]]:
    """Yield each item with its location: those shown to clients, then those shown to servers and to operators."""
    for i, frontend in enumerate(site.frontends):
        if frontend.tls is None:
            continue
        for j, source in enumerate(frontend.tls.certificates):
            yield ("frontends", i, "tls", "certificates", j), source
        if frontend.tls.acme is not None:
            yield ("frontends", i, "tls", "acme"), managed(site, frontend.tls)
    for name, backend in site.backends.items():
        if backend.tls is not None and backend.tls.certificate is not None:
            yield ("backends", name, "tls", "certificate"), backend.tls.certificate
    if site.admin.tls is not None:
        yield ("admin", "tls"), site.admin.tls


def managed(site: Site, tls: Tls) -> Managed:
    """What ACME is to get for a frontend, which says so."""
    if tls.acme is None:
        raise ValueError("a frontend with certificates by ACME says so")
    return Managed(acme.place(site.state), tuple(names[0] for names in tls.acme.names), alone=not tls.certificates)


def listed(source: Source) -> Listing:
    """Return the certificates of an item; of those by ACME, which there are already. Raises Fault at "directory"."""
    if isinstance(source, Managed):
        files = [source.file(name) for name in source.names]
        return Listing(tuple(PairFiles(file, file, listed=True) for file in files if os.access(file, os.F_OK)))
    if isinstance(source, OwnCertificate) and source.directory is not None:
        return _of_directory(source.directory)
    if source.cert is None or source.key is None:
        raise ValueError("an item has both, or a directory")
    return Listing((PairFiles(source.cert, source.key, getattr(source, "ocsp", None)),))


def read(pair: PairFiles) -> Contents:
    """Return the contents of a pair's files, without a check of certificate and key. Raises Faults."""
    found, faults = {"ocsp": b""}, []
    for part, path in (("key", pair.key), ("cert", pair.cert), ("ocsp", pair.ocsp)):
        if part == "cert" and pair.cert == pair.key and "key" in found:
            found["cert"] = found["key"]
        elif path is not None:
            try:
                found[part] = _content(path, part)
            except Fault as fault:
                faults.append(fault)
    if pair.listed and pair.cert == pair.key and b"PRIVATE KEY-----" not in found.get("key", b"PRIVATE KEY-----"):
        faults.append(Fault(f"no private key, neither in this file nor in {pair.cert.stem}.key", "key"))
    if pair.listed and pair.cert == pair.key and len(faults) > 1:
        del faults[1:]  # the same file
    if faults:
        raise Faults(faults)
    return Contents(**found)


def check(contents: Contents) -> Facts:
    """Return the facts of a certificate whose key belongs to it. Raises Faults."""
    try:
        certificate.check(_context(), contents.cert, contents.key)
    except Fault as fault:
        raise Faults([fault]) from None
    return facts(contents)


def look(pair: PairFiles) -> Facts | None:
    """Check what can be read of a pair's files, also by others; None: not even the certificate. Raises Faults."""
    found = {}
    for part, path in (("cert", pair.cert), ("key", pair.key), ("ocsp", pair.ocsp)):
        if path is not None:
            with contextlib.suppress(OSError, ValueError):
                found[part] = named_file.read(path, private=False)
    cert, key, response = found.get("cert"), found.get("key"), found.get("ocsp", b"")
    if cert is not None and key is not None:
        return check(Contents(cert, key, response))
    try:
        certificate.check_form(cert, key)
        return certificate.facts(cert, response) if cert is not None else None
    except Fault as fault:
        raise Faults([fault]) from None


def facts(contents: Contents) -> Facts:
    """Return the facts of a certificate that OpenSSL could read. Raises Faults."""
    try:
        return certificate.facts(contents.cert, contents.ocsp)
    except Fault as fault:
        raise Faults([fault]) from None


def stamps(site: Site) -> Stamps:
    """The stamps of all files of the site's certificates, without opening any."""
    found: dict[str, Stamp] = {}
    for _, source in sources(site):
        if isinstance(source, Managed):
            found.update((str(path), stamp_of(path)) for path in map(source.file, source.names))
        elif isinstance(source, OwnCertificate) and source.directory is not None:
            _add_stamps(found, source.directory)
        else:
            found.update((str(path), stamp_of(path)) for pair in listed(source).pairs for path in pair.paths)
    found.update((str(path), stamp_of(path)) for path in client_cas(site))
    return found


def client_cas(site: Site) -> dict[Path, Loc]:
    """The files of CAs whose clients' certificates are asked for, and their locations."""
    found: dict[Path, Loc] = {
        frontend.tls.client_ca: ("frontends", i, "tls", "client_ca")
        for i, frontend in enumerate(site.frontends)
        if frontend.tls is not None and frontend.tls.client_ca is not None
    }
    if site.admin.tls is not None and site.admin.tls.client_ca is not None:
        found[site.admin.tls.client_ca] = ("admin", "tls", "client_ca")
    return found


def read_cas(path: Path) -> bytes:
    """The certificates of CAs in PEM. Raises OSError, ValueError."""
    content = named_file.read(path, private=False)
    certificate.load_cas(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), content)
    return content


def _add_stamps(found: dict[str, Stamp], directory: Path) -> None:
    """Add those of a directory: of ten thousand files in 30 ms."""
    try:
        entries = os.scandir(directory)
    except OSError:
        found[str(directory)] = NONE
        return
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                status = entry.stat()
            except OSError:
                found[entry.path] = NONE
                continue
            found[entry.path] = stamp(status)
            if stat.S_ISDIR(status.st_mode):
                inside = (Path(entry.path, name) for name in (CHAIN, KEY))
                found.update((str(path), stamp_of(path)) for path in inside)


def _of_directory(directory: Path) -> Listing:
    try:
        entries = _entries(directory)
        if CHAIN in entries and KEY in entries:
            return Listing((PairFiles(directory / CHAIN, directory / KEY, listed=True),))
        pairs = [pair for name in sorted(entries) for pair in _of_entry(directory / name, entries)]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unreadable(f"cannot read {error.filename or directory}: {reason}", "directory") from None
    if not pairs:
        raise Fault(f"there is no certificate in {directory}: it needs NAME.pem or NAME.crt with NAME.key", "directory")
    stems = {Path(name).stem for name in entries if name.endswith(CERTIFICATES)}
    lonely = [name for name in sorted(entries) if name.endswith(".key") and Path(name).stem not in stems]
    return Listing(tuple(pairs), tuple(f"{directory / name}: there is no certificate for this key" for name in lonely))


def _of_entry(path: Path, beside: Mapping[str, bool]) -> Iterator[PairFiles]:
    """The certificate of an entry of a directory, if it is one: a file, or a directory of one certificate."""
    if beside[path.name]:
        inside = _entries(path)
        if CHAIN in inside and KEY in inside:
            yield PairFiles(path / CHAIN, path / KEY, listed=True)
    elif path.suffix in CERTIFICATES:
        key, ocsp = path.with_suffix(".key"), path.with_suffix(".ocsp")
        yield PairFiles(path, key if key.name in beside else path, ocsp if ocsp.name in beside else None, listed=True)


def _entries(directory: Path) -> dict[str, bool]:
    """The names in a directory, but for hidden ones, and whether each is a directory. Raises OSError, Fault."""
    found = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                found[entry.name] = entry.is_dir()
            if len(found) > MOST:
                raise Fault(f"{directory} has more than {MOST:,} files: name another directory", "directory")
    return found


def _content(path: Path, part: str) -> bytes:
    try:
        return named_file.read(path, private=part == "key")
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {(error.strerror or str(error)).lower()}", part) from None
    except ValueError as error:
        raise Unreadable(str(error), part) from None


@cache
def _context() -> ssl.SSLContext:
    """One for all: to make one takes as long as to read a key."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
