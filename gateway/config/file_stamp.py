"""Stamps of files: by them a change of a file is noticed without opening it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

Stamp: TypeAlias = tuple[int, ...]
"""What changes with a file: its device, number, size, and the times of its last changes."""
Stamps: TypeAlias = Mapping[str, Stamp]
"""By path."""
NONE: Final[Stamp] = ()
"""The stamp of a file that does not exist."""


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file; NONE if there is none."""
    try:
        return stamp(path.stat())
    except OSError:
        return NONE


def stamp(status: os.stat_result) -> Stamp:
    """The stamp of a file with this status."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
