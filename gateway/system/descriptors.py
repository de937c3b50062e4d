"""The open descriptors of this process."""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path


def close_strangers() -> None:
    """Close descriptors inherited from the program that started this one. Python's own are never passed on by exec."""
    for number in _open():
        if number > 2:
            with contextlib.suppress(OSError):  # the one of the directory itself
                if os.get_inheritable(number):
                    os.close(number)


def close_all_but(kept: Collection[int]) -> None:
    """Close all that were inherited but `kept`, and standard input, output and error, however often these are open.

    For a process that ends by os._exit: objects that own what is closed must never be freed.
    """
    standard = {_file(number) for number in (1, 2)}
    for number in _open():
        if number > 2 and number not in kept:
            with contextlib.suppress(OSError):  # the one of the directory itself
                if _file(number) not in standard:
                    os.close(number)


def _file(number: int) -> tuple[int, int]:
    status = os.fstat(number)
    return status.st_dev, status.st_ino


def _open() -> list[int]:
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
