"""Reads files that a site file names."""

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Final

from gateway.system import regular_file

MAX_BYTES: Final = 1024 * 1024


def read(path: Path, *, private: bool) -> bytes:
    """Return the content; only its owner, and a group that it is intended for, may read a private one.

    Raises OSError, ValueError with the reason.
    """
    content, status = regular_file.read(path, MAX_BYTES + 1)
    if private and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) and not shared_with(status):
        raise ValueError(f"other users can read {path}; run: chmod 600 {path}")
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is larger than 1MiB")
    return content


def open_to_all(path: Path) -> bool:
    """Whether every user of this machine can read a file."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def shared_with(status: os.stat_result) -> str:
    """The group that a private file is intended for, besides its owner; empty: none can read it, or more than that
    group has access.

    Kubernetes mounts a Secret in this way (root:fsGroup 0440), and Debian keeps keys so (root:ssl-cert 0640): the file
    has an owner, and its group is not the owner's primary group.
    """
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) != stat.S_IRGRP:
        return ""
    try:
        usual = pwd.getpwuid(status.st_uid).pw_gid
    except KeyError:
        usual = status.st_uid
    if status.st_gid == usual:
        return ""
    try:
        return grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return str(status.st_gid)
