"""Keys: the one that a gateway makes at its first start and keeps in a file, and those derived from a secret.

A derived key reveals neither the secret nor the other keys.
"""

import contextlib
import os
import secrets
import stat
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NAME: Final = "secret.key"
KEY_BYTES: Final = 32


class BadKey(ValueError):
    """There is a key, and it must not be used; the text says why and what to do."""


def find(directory: Path) -> bytes | None:
    """The key that is kept in `directory`, None if there is none. Raises OSError, BadKey."""
    path = directory / NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadKey(f"{path} is not a file: remove it, and the gateway makes a key")
        if status.st_uid != os.geteuid():
            raise BadKey(f"{path} belongs to user {status.st_uid}: remove it, and the gateway makes a key")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadKey(f"other users can read {path}: remove it, and the gateway makes another key")
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise BadKey(f"{path} does not have {KEY_BYTES} bytes: remove it, and the gateway makes another key")
    return key


def keep(directory: Path) -> bytes:
    """The key that is kept in `directory`; a new one, and the directory, if there is none. Raises OSError, BadKey."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    while (key := find(directory)) is None:
        draft = directory / f".{NAME}.{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(descriptor)
            # Whole or not at all; and of two gateways that start at once, the second takes the key of the first.
            with contextlib.suppress(FileExistsError):
                os.link(draft, directory / NAME)
        finally:
            draft.unlink()
        _sync(directory)
    return key


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def derive(secret: bytes, purpose: bytes, length: int = 32) -> bytes:
    """`length` bytes by HKDF with SHA-256 (RFC 5869). The secret has 16 bytes of randomness at least."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=b"eddie " + purpose).derive(secret)


def fingerprint(*contents: bytes) -> bytes:
    """The SHA-256 of several contents in order, in which none can be mistaken for a part of another."""
    return sha256(b"".join(sha256(content).digest() for content in contents)).digest()
