"""What only workers may know: certificates with their private keys, and what cookies and TLS tickets are signed with.

A helper process reads it, checks it and writes it to a memory file without a name (memfd_create(2)), which is sealed
and mapped by no process. The supervisor has the descriptor and never the contents, so that none of the processes that
it forks has them either. A worker reads them into a buffer, which it wipes when it has made of them what it works with.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from gateway.config import ConfigError, Loaded, Problem, Site, files
from gateway.hardening.confinement import Bounds, protect
from gateway.process.helper import Write, run_helper
from gateway.proxy.tls import exported, kind_of, names_of
from gateway.secrets import keys
from gateway.secrets.keys import derive, fingerprint

DEADLINE: Final = 20.0
"""Seconds for reading everything."""
LIMIT: Final = 1024 * 1024
"""Bytes of what is wrong with what was read."""
SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
ALIGNED: Final = 8
"""Bytes that a part of a vault begins at a multiple of; see tls.exported."""

_CERTIFICATE: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]*CERTIFICATE)-----.*?-----END \1-----\r?\n?", re.DOTALL)
"""In a file that may have the private key as well."""

PairKey: TypeAlias = tuple[Path, Path]
"""The files of a certificate and its key."""


class BadState(Exception):
    """The gateway's own key cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain in PEM and its private key as tls.exported; `digest` tells it from others."""

    cert: bytes
    key: bytes | memoryview
    digest: str
    names: tuple[str, ...] = ()
    """See tls.names_of."""
    kind: str = ""
    """See tls.kind_of."""
    ocsp: bytes = b""
    ocsp_until: int = 0
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a worker works with. `own`: of this gateway or its cluster; empty where nothing is signed with it.

    `pairs` is None for those who only decide on requests.
    """

    own: bytes
    pairs: Mapping[PairKey, Pair] | None

    @classmethod
    def read(cls, loaded: Loaded, *, pairs: bool = True) -> Self:
        """For this process itself; a gateway's key that is not there, or not for it, is made up. Raises ValueError."""
        own = _of_cluster(loaded)
        if not own and needs_own(loaded.site):
            try:
                own = keys.find(loaded.site.state) or b""
            except (OSError, keys.BadKey):
                own = b""
        return cls(own or os.urandom(keys.KEY_BYTES), dict(_read_pairs(loaded.site)) if pairs else None)


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
        index: dict[str, Any] = {"own": len(secrets.own), "pairs": []}
        for (cert, key), pair in (secrets.pairs or {}).items():
            more = [pair.digest, pair.names, pair.kind, pair.ocsp_until]
            index["pairs"].append([str(cert), str(key), len(pair.cert), len(pair.key), len(pair.ocsp), *more])
            parts += [pair.cert, pair.key, pair.ocsp]
        head = json.dumps(index).encode()
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
    """What processes get by their roles: workers all; control, in PEM, what checks show to servers, if they do."""

    workers: Vault
    checks: Vault | None

    def fill(self, secrets: Secrets, shown: Mapping[PairKey, Pair]) -> None:
        """Write everything, once and for all. Raises OSError."""
        self.workers.fill(secrets)
        if self.checks is not None:
            self.checks.fill(Secrets(b"", shown))

    def close(self) -> None:
        """Let both go."""
        self.workers.close()
        if self.checks is not None:
            self.checks.close()


def gather(loaded: Loaded, before: Vaults | None) -> tuple[Vaults, list[str]]:
    """The vaults for a site file, and warnings. Raises ConfigError for certificates and keys, BadState.

    `before` are those so far: they have the gateway's own key where that cannot be kept on disk.
    """
    shown = _shown_by_checks(loaded.site)
    vaults = Vaults(Vault.create(), Vault.create("gateway-check-keys") if shown else None)
    needed = needs_own(loaded.site)
    if not needed and not any(files.pairs(loaded.site)):
        vaults.fill(Secrets(b"", {}), {})
        return vaults, []

    def read(write: Write) -> None:
        found: dict[str, Any] = {"problems": [], "bad_state": "", "warnings": []}
        pairs: dict[PairKey, Pair] = {}
        for index, (_, pair) in enumerate(files.pairs(loaded.site)):
            contents, faults = files.read_pair(pair)
            found["problems"] += [[index, str(fault.at[0]), str(fault)] for fault in faults]
            if contents is not None:
                pairs[pair.cert, pair.key] = _pair(*contents, *files.read_ocsp(pair, contents[0]))
                shown.update({key: Pair(*contents, "") for key in shown if key == (pair.cert, pair.key)})
        own = _of_cluster(loaded)
        try:
            if not own and needed:
                own = keys.keep(loaded.site.state)
        except keys.BadKey as error:
            found["bad_state"] = str(error)
        except OSError as error:
            own = _own_of(before) or os.urandom(keys.KEY_BYTES)
            found["warnings"].append(_not_kept(loaded.site.state, error))
        vaults.fill(Secrets(own, pairs), shown)
        write(json.dumps(found).encode())

    try:
        said = run_helper(
            lambda: read,
            partial(protect, Bounds.of(loaded.site)),
            DEADLINE,
            LIMIT,
            "cannot read the certificates and their keys",
            [
                each.fileno()
                for each in (vaults.workers, vaults.checks, before.workers if before else None)
                if each is not None
            ],
        )
        found = json.loads(said)
    except ValueError:
        vaults.close()
        raise BadState(f"reading certificates and keys took longer than {DEADLINE:g} s, or crashed") from None
    if found["problems"] or found["bad_state"]:
        vaults.close()
    if found["problems"]:
        places = [loaded.pairs_at[index, part] for index, part, _ in found["problems"]]
        messages = [message for _, _, message in found["problems"]]
        raise ConfigError(
            [Problem(loaded.path, line, column, text) for (line, column), text in zip(places, messages, strict=True)]
        )
    if found["bad_state"]:
        raise BadState(found["bad_state"])
    return vaults, found["warnings"]


def needs_own(site: Site) -> bool:
    """Whether this gateway signs anything with a key of its own."""
    kinds = [backend.affinity for backend in site.backends.values() if backend.affinity is not None]
    cookies = any(kind.cookie is not None and kind.key_file is None for kind in kinds)
    tickets = any(frontend.tls and not frontend.tls.ticket_key_file for frontend in site.frontends)
    return site.cluster is None and (cookies or tickets or site.qos.sessions is not None)


def _of_cluster(loaded: Loaded) -> bytes:
    """What the gateways of a cluster sign with; empty without one."""
    cluster = loaded.site.cluster
    return derive(loaded.files[cluster.key_file].strip(), b"gateways of a cluster") if cluster is not None else b""


def _shown_by_checks(site: Site) -> dict[PairKey, Pair]:
    """The certificates that checks show to servers, still to be read."""
    certificates = [backend.tls.certificate for backend in site.backends.values() if backend.tls and backend.check]
    return {(pair.cert, pair.key): Pair(b"", b"", "") for pair in certificates if pair is not None}


def _own_of(vaults: Vaults | None) -> bytes:
    if vaults is None:
        return b""
    with vaults.workers.open() as secrets:
        return secrets.own


def _not_kept(directory: Path, error: OSError) -> str:
    return (
        f"cannot keep a key in {directory} ({(error.strerror or '').lower()}): sessions of cookies and TLS tickets end "
        "with this gateway; let `state` name a directory that it may write"
    )


def _read_pairs(site: Site) -> Iterator[tuple[PairKey, Pair]]:
    for _, pair in files.pairs(site):
        contents, faults = files.read_pair(pair)
        if contents is None:
            raise faults[0]
        yield (pair.cert, pair.key), _pair(*contents, *files.read_ocsp(pair, contents[0]))


def _pair(cert: bytes, key: bytes, ocsp: bytes, ocsp_until: int) -> Pair:
    content = exported(key)
    chain = b"".join(match[0] for match in _CERTIFICATE.finditer(cert))
    digest = fingerprint(chain, content, ocsp).hex()
    return Pair(chain, content, digest, names_of(chain), kind_of(chain), ocsp, ocsp_until)


def _parsed(content: memoryview) -> Secrets:
    at = 0

    def part(length: int) -> memoryview:
        nonlocal at
        found = content[at : at + length]
        at += length + -length % ALIGNED
        return found

    index = json.loads(bytes(part(int.from_bytes(part(ALIGNED), "big"))))
    own = bytes(part(index["own"]))
    pairs = {
        (Path(cert), Path(key)): Pair(
            bytes(part(cert_bytes)), part(key_bytes), digest, tuple(names), kind, bytes(part(ocsp_bytes)), ocsp_until
        )
        for cert, key, cert_bytes, key_bytes, ocsp_bytes, digest, names, kind, ocsp_until in index["pairs"]
    }
    return Secrets(own, pairs)
