"""The directory where accounts and certificates are kept, with their keys: for the gateway's own account alone.

The process opens it before it is confined, and reaches its files by this descriptor only: the directories above may be
closed to its account.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import stat
from pathlib import Path
from typing import Final, Self

from gateway.acme.state import PEM_BYTES, State, Unusable, as_json, parsed
from gateway.hardening.account import Account

STATE: Final = "state.json"
LOCK: Final = "lock"
LONGEST: Final = 32 * 1024 * 1024
"""Bytes of the state."""
_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

log = logging.getLogger("gateway.acme")


class NoStore(OSError):
    """The directory cannot be used; the text says what to do."""


class Store:
    """`NAME.pem` for each certificate, and everything else in one file."""

    def __init__(self, descriptor: int) -> None:
        self._directory = descriptor
        self._lock = -1

    @classmethod
    def open(cls, path: Path, account: Account | None) -> Self:
        """Open it, or make it for an account. Raises NoStore."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if account is not None and os.fstat(descriptor).st_uid != account.uid:
                _give(descriptor, account)
            status = os.fstat(descriptor)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise NoStore(f"cannot keep certificates in {path}: {reason}; let `state` name another directory") from None
        owner = account.uid if account is not None else os.geteuid()
        if status.st_uid != owner or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise NoStore(f"others may write to or read {path}: remove it, and the gateway makes it again")
        return cls(descriptor)

    @property
    def path(self) -> Path:
        """A path that leads to it from this process, whatever the account may reach."""
        return Path(f"/proc/self/fd/{self._directory}")

    def lock(self) -> bool:
        """Whether this process is the one that may write: another gateway that uses the directory may still run."""
        if self._lock < 0:
            self._lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600, dir_fd=self._directory)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let it go."""
        for descriptor in (self._lock, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._directory = -1

    def load(self) -> State:
        """What is kept; nothing if it cannot be used, which is said. Raises OSError."""
        text = self._read(STATE, LONGEST)
        if text is None:
            return State()
        try:
            return parsed(text)
        except Unusable as error:
            os.rename(STATE, f"{STATE}.bad", src_dir_fd=self._directory, dst_dir_fd=self._directory)
            log.error("what is kept of certificates cannot be used, and is now called %s.bad: %s", STATE, error)
            return State()

    def save(self, state: State, before: State) -> None:
        """Keep a state; `before` is the one that is kept. Raises OSError."""
        self._replace(STATE, as_json(state))
        for name, certificate in state.certificates.items():
            if before.certificates.get(name) != certificate or not self._has(f"{name}.pem"):
                self._replace(f"{name}.pem", certificate.pem.encode()[:PEM_BYTES])

    def _has(self, name: str) -> bool:
        return os.access(name, os.F_OK, dir_fd=self._directory, follow_symlinks=False)

    def _read(self, name: str, limit: int) -> bytes | None:
        try:
            descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=self._directory)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(limit + 1)

    def _replace(self, name: str, content: bytes) -> None:
        fresh = f".{secrets.token_hex(8)}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.rename(fresh, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(fresh, dir_fd=self._directory)
            raise
        os.fsync(self._directory)


def _give(descriptor: int, account: Account) -> None:
    """Give a directory and its files to an account: it may have belonged to another one before.

    That one could have put a link to a file of root's there, which stays root's.
    """
    for name in os.listdir(descriptor):
        file = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=descriptor)
        try:
            status = os.fstat(file)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                os.fchown(file, account.uid, account.gid)
        finally:
            os.close(file)
    os.fchown(descriptor, account.uid, account.gid)
