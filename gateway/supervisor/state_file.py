"""Files in the state directory: one for each site file, replaced as a whole, for the gateway's own account alone."""

import os
import stat
from hashlib import sha256
from pathlib import Path

from gateway.system import regular_file


class NotOurs(OSError):
    """The file could have been written by another user; the text says what to do."""


def place(directory: Path, name: str, site: Path) -> Path:
    """The file called `name` of the site file at `site`: gateways of several site files may share a directory."""
    digest = sha256(os.fsencode(os.path.abspath(site))).hexdigest()[:16]  # noqa: PTH100 - links stay: they change
    return directory / f"{name}-{digest}.json"


def write(path: Path, content: bytes) -> None:
    """Replace the file; the old one or the new one is there after a crash. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    regular_file.replace(path, content, 0o600, durable=True)


def read(path: Path, limit: int) -> bytes | None:
    """The content; None if there is no file. Raises OSError, NotOurs."""
    try:
        content, status = regular_file.read(path, limit + 1)
    except (FileNotFoundError, NotADirectoryError):  # of the latter writing will tell
        return None
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotOurs(f"another user can write to {path}: remove it")
    if len(content) > limit:
        raise NotOurs(f"{path} is larger than {limit} bytes: remove it")
    return content
