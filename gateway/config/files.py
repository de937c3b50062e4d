"""The files a site names: read once, by the process that may, so that the others never open them."""

import os
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.config import certificate
from gateway.config.model import Site
from gateway.config.problem import Fault, Finding, Loc

MAX_BYTES: Final = 1024 * 1024
MIN_KEY_BYTES: Final = 16
"""Shorter keys for signed reports could be guessed."""


class Files:
    """Contents of files by path, and what is wrong with them."""

    def __init__(self) -> None:
        self.contents: dict[Path, bytes] = {}
        self.findings: list[Finding] = []

    def read(self, path: Path, loc: Loc, *, private: bool = False) -> bytes | None:
        """The content, or None after noting why there is none. A private file is its owner's alone."""
        try:
            content = self.contents.get(path)
            if content is None or private:
                content = self.contents[path] = _read(path, private=private)
        except OSError as error:
            self.findings.append(Finding(loc, f"cannot read {path}: {(error.strerror or str(error)).lower()}"))
            return None
        except ValueError as error:
            self.findings.append(Finding(loc, str(error)))
            return None
        return content


def read(site: Site) -> Files:
    """Read and check every file of `site`."""
    files = Files()
    for status, page in site.pages.items():
        files.read(page, ("pages", str(status)))
    loc: Loc
    if site.load_reports:
        loc = ("load_reports", "key_file")
        secret = files.read(site.load_reports.key_file, loc, private=True)
        if secret is not None and len(secret.strip()) < MIN_KEY_BYTES:
            files.findings.append(Finding(loc, f"the key is too short: at least {MIN_KEY_BYTES} bytes"))
    for name, backend in site.backends.items():
        if backend.affinity and backend.affinity.key_file:
            loc = ("backends", name, "affinity", "key_file")
            secret = files.read(backend.affinity.key_file, loc, private=True)
            if secret is not None and len(secret.strip()) < MIN_KEY_BYTES:
                files.findings.append(Finding(loc, f"the key is too short: at least {MIN_KEY_BYTES} bytes"))
    for i, frontend in enumerate(site.frontends):
        for j, pair in enumerate(frontend.tls.certificates if frontend.tls else ()):
            loc = ("frontends", i, "tls", "certificates", j)
            cert = files.read(pair.cert, (*loc, "cert"))
            key = files.read(pair.key, (*loc, "key"), private=True)
            if cert is not None and key is not None:
                try:
                    certificate.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, key)
                except Fault as fault:
                    files.findings.append(Finding((*loc, *fault.at), str(fault)))
    files.findings.extend(_log_directory(site))
    return files


def _log_directory(site: Site) -> Iterator[Finding]:
    if site.access_log and site.access_log.path != "-":
        directory = Path(site.access_log.path).parent
        if not directory.is_dir():
            yield Finding(("access_log", "path"), f"there is no directory {directory}")


def _read(path: Path, *, private: bool) -> bytes:
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not a file")
        if private and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError(f"others can read {path}: chmod 600 {path}")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is larger than 1MiB")
    return content


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe or a device named by mistake without waiting for its other end."""
    return os.open(path, flags | os.O_NONBLOCK)
