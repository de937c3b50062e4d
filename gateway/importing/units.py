"""Durations, sizes and rates as other proxies write them, in the notation of site files."""

import re
from typing import Final

_TIME: Final = re.compile(r"([0-9]+)(us|ms|s|m|h|d|w|M|y)?")
_MILLISECONDS: Final = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NGINX: Final = {**_MILLISECONDS, "w": 604_800_000, "M": 2_592_000_000, "y": 31_536_000_000}
_SIZE: Final = re.compile(r"([0-9]+)([kKmMgG]?)")


def milliseconds(text: str, unit: str) -> int:
    """A duration, or several such as 1m30s; a plain number has `unit`. Raises ValueError."""
    pieces = list(_TIME.finditer(text))
    if not pieces or "".join(piece[0] for piece in pieces) != text:
        raise ValueError(f"{text} is not a duration")
    return int(sum(int(piece[1]) * _NGINX[piece[2] or unit] for piece in pieces))


def duration(text: str, unit: str) -> str:
    """The same as a site file has it. Raises ValueError."""
    return duration_of(milliseconds(text, unit))


def duration_of(number: int) -> str:
    """Milliseconds in the largest unit that divides them."""
    number = max(number, 1)
    for name in ("d", "h", "m", "s"):
        if number % _MILLISECONDS[name] == 0:
            return f"{number // int(_MILLISECONDS[name])}{name}"
    return f"{number}ms"


def size(text: str) -> int:
    """Bytes of 1024, 8k, 10m, 1g. Raises ValueError."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is not a size")
    return int(int(found[1]) * 1024 ** " kmg".index(found[2].lower() or " "))


def rate(count: int, seconds: float) -> str:
    """So many in so many seconds, in the shortest unit that makes it a whole number."""
    for name, length in (("s", 1), ("m", 60), ("h", 3600)):
        number = count * length / seconds
        if number >= 1 and abs(number - round(number)) < 1e-9:
            return f"{round(number)}/{name}"
    return f"{max(1, round(count * 3600 / seconds))}/h"
