"""What only workers may know: certificates with their private keys, and what cookies and TLS tickets are signed with.

A helper process reads it, checks it and writes it to a memory file without a name (memfd_create(2)), which is sealed
and mapped by no process. The supervisor has the descriptor and never the contents, so that none of the processes that
it forks has them either. A worker reads them into a buffer, which it wipes when it has made of them what it works with.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from gateway.config import ConfigError, Loaded, Problem, Site, certificate_files
from gateway.config.admin import AdminTls
from gateway.config.certificate_files import Managed, PairFiles, RefusedFile, Source
from gateway.config.model import Certificate, OwnCertificate
from gateway.config.problem import Fault
from gateway.hardening.confinement import Bounds, protect
from gateway.process.helper import Write, run_helper
from gateway.secrets import keys
from gateway.secrets.keys import derive
from gateway.secrets.pairs import TOLD, Expiry, Pair, PairKey, PairReader, at_most

DEADLINE: Final = 20.0
"""Seconds for reading everything,"""
SECONDS_PER_PAIR: Final = 0.01
"""and for each certificate."""
MOST_PROBLEMS: Final = 200
LIMIT: Final = 1024 * 1024
"""Bytes of what is wrong with what was read."""
SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
ALIGNED: Final = 8
"""Bytes that a part of a vault begins at a multiple of; see tls.exported."""
_REST: Final = tuple(one.name for one in fields(Pair) if one.name not in {"cert", "key", "ocsp"})
"""What of a pair is in the index of a vault."""


class BadState(Exception):
    """The gateway's own key cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a worker works with. `own`: of this gateway or its cluster; empty where nothing is signed with it.

    `pairs` is None for those who only decide on requests.
    """

    own: bytes
    pairs: Mapping[PairKey, Pair] | None
    directories: Mapping[Path, tuple[PairKey, ...]] = field(default_factory=dict)
    """The pairs of each directory, in the order of their names."""

    def pairs_of(self, source: Source) -> list[Pair]:
        """Return the pairs of an item of the site file."""
        if isinstance(source, Managed):
            keys = self.directories[source.place]
        elif isinstance(source, OwnCertificate) and source.directory is not None:
            keys = self.directories[source.directory]
        else:
            keys = tuple((pair.cert, pair.key) for pair in certificate_files.listed(source).pairs)
        return [self.pairs[key] for key in keys] if self.pairs is not None else []

    @classmethod
    def read(cls, loaded: Loaded, *, pairs: bool = True) -> Self:
        """For this process itself; a gateway's key that is not there, or not for it, is made up. Raises ValueError."""
        own = _of_cluster(loaded)
        if not own and needs_own(loaded.site):
            try:
                own = keys.find(loaded.site.state) or b""
            except (OSError, keys.BadKey):
                own = b""
        own = own or os.urandom(keys.KEY_BYTES)
        if not pairs:
            return cls(own, None)
        reader = PairReader({}, {})
        for number, (_, source) in enumerate(certificate_files.sources(loaded.site)):
            reader.add(number, source)
        if reader.problems:
            raise ValueError(reader.problems[0][2])
        return cls(own, reader.pairs, reader.directories)


class Vault:
    """The memory file. `fill` and `open` are each for one process alone, `close` is for all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def create(cls, name: str = "gateway-vault") -> Self:
        """An empty one. Raises OSError."""
        return cls(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def fill(self, secrets: Secrets) -> None:
        """Write everything, once and for all. Raises OSError."""
        parts: list[bytes | memoryview] = [secrets.own]
        index: list[Any] = []
        numbers = {files: number for number, files in enumerate(secrets.pairs or {})}
        for (cert, key), pair in (secrets.pairs or {}).items():
            rest = {name: getattr(pair, name) for name in _REST}
            index.append([str(cert), str(key), len(pair.cert), len(pair.key), len(pair.ocsp), rest])
            parts += [pair.cert, pair.key, pair.ocsp]
        directories = {str(at): [numbers[files] for files in inside] for at, inside in secrets.directories.items()}
        # A line for each pair: to parse a line is one step for the interpreter, and a worker's traffic waits so long.
        head = "\n".join(map(json.dumps, ({"own": len(secrets.own), "directories": directories}, *index))).encode()
        with os.fdopen(os.dup(self._descriptor), "wb") as file:
            for part in (len(head).to_bytes(ALIGNED, "big"), head, *parts):
                file.write(part)
                file.write(bytes(-len(part) % ALIGNED))
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, SEALS)

    @contextmanager
    def open(self) -> Iterator[Secrets]:
        """What is in it; the private keys only for as long as the block lasts."""
        content = bytearray(os.fstat(self._descriptor).st_size)
        os.preadv(self._descriptor, [content], 0)
        try:
            yield _parsed(memoryview(content))
        finally:
            content[:] = bytes(len(content))

    def close(self) -> None:
        """Let it go; it ends with the last descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True, slots=True)
class Vaults:
    """What processes get by their roles: workers what is for traffic; control, in PEM, what it shows itself, if any."""

    workers: Vault
    control: Vault | None

    def fill(self, secrets: Secrets, shown: Mapping[PairKey, Pair]) -> None:
        """Write everything, once and for all. Raises OSError."""
        self.workers.fill(secrets)
        if self.control is not None:
            self.control.fill(Secrets(b"", shown))

    def close(self) -> None:
        """Let both go."""
        self.workers.close()
        if self.control is not None:
            self.control.close()


@dataclass(frozen=True, slots=True)
class Gathered:
    """The vaults for a site file, and what the helper process says of its certificates."""

    vaults: Vaults
    warnings: tuple[str, ...] = ()
    kept: tuple[RefusedFile, ...] = ()
    changed: bool = True
    """See PairReader for both."""
    expiry: Expiry = field(default_factory=Expiry)


def gather(loaded: Loaded, before: Vaults | None, *, forgiving: bool = False) -> Gathered:
    """Read the certificates and keys of a site file. Raises ConfigError for them, BadState.

    `before` are the vaults so far: what did not change is taken from them, and they have the gateway's own key where
    that cannot be kept on disk. `forgiving`: see PairReader.
    """
    shown = _shown_by_control(loaded.site)
    vaults = Vaults(Vault.create(), Vault.create("gateway-control-keys") if shown else None)
    sources = [source for _, source in certificate_files.sources(loaded.site)]
    needed = needs_own(loaded.site)
    if not needed and not sources:
        vaults.fill(Secrets(b"", {}), {})
        return Gathered(vaults)

    def read(write: Write) -> None:
        with _opened(before) as (old, shown_before):
            reader = PairReader({**shown_before, **(old.pairs or {})}, old.directories, forgiving)
            pairs = _add_all(reader, sources)
            found: dict[str, Any] = {"problems": reader.problems[:MOST_PROBLEMS], "bad_state": "", "warnings": []}
            own = _of_cluster(loaded)
            try:
                if not own and needed:
                    own = keys.keep(loaded.site.state)
            except keys.BadKey as error:
                found["bad_state"] = str(error)
            except OSError as error:
                own = old.own or os.urandom(keys.KEY_BYTES)
                found["warnings"].append(_not_kept(loaded.site.state, error))
            if not reader.problems:
                vaults.fill(Secrets(own, pairs, reader.directories), _in_pem(shown, reader.pairs, shown_before))
            expiry = reader.expiry()
            found["warnings"] += at_most(reader.warnings)
            found |= {"kept": [(one.file, one.why) for one in reader.kept[:TOLD]], "changed": reader.changed}
            found |= {"count": expiry.count, "soonest": expiry.soonest}
            write(json.dumps(found).encode())

    seconds = DEADLINE + SECONDS_PER_PAIR * _count(sources)
    try:
        said = run_helper(
            lambda: read,
            partial(protect, Bounds.of(loaded.site)),
            seconds,
            LIMIT,
            "cannot read the certificates and their keys",
            [
                each.fileno()
                for both in (vaults, before)
                for each in ((both.workers, both.control) if both is not None else ())
                if each is not None
            ],
        )
        found = json.loads(said)
    except ValueError:
        vaults.close()
        raise BadState(f"reading certificates and keys took longer than {seconds:g} s, or crashed") from None
    if found["problems"] or found["bad_state"]:
        vaults.close()
    if found["problems"]:
        places = [loaded.pairs_at[index, part] for index, part, _ in found["problems"]]
        messages = [message for _, _, message in found["problems"]]
        raise ConfigError([Problem(*place, text) for place, text in zip(places, messages, strict=True)])
    if found["bad_state"]:
        raise BadState(found["bad_state"])
    expiry = Expiry(found["count"], tuple((name, begin, end) for name, begin, end in found["soonest"]))
    kept = tuple(RefusedFile(file, why) for file, why in found["kept"])
    return Gathered(vaults, tuple(found["warnings"]), kept, found["changed"], expiry)


def _add_all(reader: PairReader, sources: Sequence[Source]) -> Mapping[PairKey, Pair]:
    """Read all items of a site file; return the pairs for workers."""
    of_traffic = None
    for number, source in enumerate(sources):
        if isinstance(source, AdminTls):  # the last one
            of_traffic = dict(reader.pairs)
        reader.add(number, source)
    return reader.pairs if of_traffic is None else of_traffic


def needs_own(site: Site) -> bool:
    """Whether this gateway signs anything with a key of its own."""
    cookies = any(kind.cookie is not None and kind.key_file is None for _, _, kind in site.affinities())
    tickets = any(frontend.tls and not frontend.tls.ticket_key_file for frontend in site.frontends)
    return site.cluster is None and (cookies or tickets or site.qos.sessions is not None)


def _of_cluster(loaded: Loaded) -> bytes:
    """What the gateways of a cluster sign with; empty without one."""
    cluster = loaded.site.cluster
    return derive(loaded.files[cluster.key_file].strip(), b"gateways of a cluster") if cluster is not None else b""


def _shown_by_control(site: Site) -> set[PairKey]:
    """The certificates that checks show to servers, and the listener to operators."""
    certificates: list[Certificate | AdminTls | None] = [
        backend.tls.certificate for backend in site.backends.values() if backend.tls and backend.check
    ]
    certificates.append(site.admin.tls)
    return {(pair.cert, pair.key) for pair in certificates if pair is not None}


@contextmanager
def _opened(vaults: Vaults | None) -> Iterator[tuple[Secrets, Mapping[PairKey, Pair]]]:
    """What is in the vault of the workers, and the pairs of control; nothing without them."""
    with ExitStack() as stack:
        if vaults is None:
            yield Secrets(b"", {}), {}
            return
        of_control = stack.enter_context(vaults.control.open()).pairs if vaults.control is not None else None
        yield stack.enter_context(vaults.workers.open()), of_control or {}


def _in_pem(
    shown: Iterable[PairKey], pairs: Mapping[PairKey, Pair], before: Mapping[PairKey, Pair]
) -> dict[PairKey, Pair]:
    """The pairs that control shows, with keys in PEM; one that stayed as it was comes from `before`. Raises Faults."""
    found = {}
    for files in shown:
        pair, old = pairs[files], before.get(files)
        if old is not None and old.stamp == pair.stamp:
            found[files] = old
        else:
            contents = certificate_files.read(PairFiles(*files))
            certificate_files.check(contents)  # they may have changed since they became pairs
            found[files] = replace(pair, cert=contents.cert, key=contents.key, ocsp=b"")
    return found


def _count(sources: Iterable[Source]) -> int:
    """How many certificates there are to read."""
    count = 0
    for source in sources:
        with suppress(Fault):
            count += len(certificate_files.listed(source).pairs)
    return count


def _not_kept(directory: Path, error: OSError) -> str:
    return (
        f"cannot keep a key in {directory} ({(error.strerror or '').lower()}): sessions of cookies and TLS tickets end "
        "with this gateway; let `state` name a directory that it may write"
    )


def _parsed(content: memoryview) -> Secrets:
    at = 0

    def part(length: int) -> memoryview:
        nonlocal at
        found = content[at : at + length]
        at += length + -length % ALIGNED
        return found

    first, *lines = bytes(part(int.from_bytes(part(ALIGNED), "big"))).split(b"\n")
    index = json.loads(first)
    own = bytes(part(index["own"]))
    pairs = {}
    for line in lines:
        cert, key, cert_bytes, key_bytes, ocsp_bytes, rest = json.loads(line)
        chain, exported, ocsp = bytes(part(cert_bytes)), part(key_bytes), bytes(part(ocsp_bytes))
        rest["names"], rest["stamp"] = tuple(rest["names"]), tuple(map(tuple, rest["stamp"]))
        pairs[Path(cert), Path(key)] = Pair(cert=chain, key=exported, ocsp=ocsp, **rest)
    known = list(pairs)
    directories = {Path(name): tuple(known[at] for at in inside) for name, inside in index["directories"].items()}
    return Secrets(own, pairs, directories)
