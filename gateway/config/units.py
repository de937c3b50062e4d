"""Converts durations, sizes and shares as people write them into numbers, and numbers into what people read."""

import re
import time
from typing import Final

_DURATION: Final = re.compile(r"([0-9]{1,100}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE: Final = re.compile(r"([0-9]{1,100}(?:\.[0-9]{1,9})?) ?([KMGT]i?B|B)")
_BYTES: Final[dict[str, int]] = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)},
}
_RATE: Final = re.compile(r"(.*[0-9A-Za-z]) ?/ ?([smh])")
_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%")
_SPOKEN_RATE: Final = re.compile(r"([0-9]+) ?(?:r|req|requests|rps)? ?(?:/|per) ?(s|m|h)[a-z]*")
_NUMBER_AND_WORD: Final = re.compile(r"([0-9.]+) ?([A-Za-z]+)")

LONGEST: Final = 3650 * 86400.0
"""Seconds; longer durations are considered a mistake."""
LARGEST: Final = 1 << 62
"""Bytes; more cannot be counted."""


def duration(value: object) -> float:
    """Seconds of a text such as 250ms, 2s, 10m, 1h, 1d. Raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"a duration needs a unit: {value}s? (250ms, 2s, 10m, 1h, 1d)")  # noqa: TRY004 - pydantic takes ValueError
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a duration such as 250ms, 2s, 10m{_nearest_unit(value)}")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > LONGEST:
        raise ValueError("a duration is at most 3650d")
    return seconds


def _nearest_unit(value: object) -> str:
    """For 10sec, 5 minutes, 2H: the same in a valid unit."""
    match = _NUMBER_AND_WORD.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return ""
    word = match[2].lower()
    unit = "ms" if word.startswith(("ms", "mil")) else word[0]
    return f" (did you mean {match[1]}{unit}?)" if unit in _SECONDS else ""


def size(value: object) -> int:
    """Bytes of a text such as 500B, 16KiB, 1MiB, 10MB, or of a plain integer. Raises ValueError."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        number = value
    elif match is not None:
        number = int(float(match[1]) * _BYTES[match[2]])
    else:
        raise ValueError(f"expected a size such as 500B, 16KiB, 1MiB{_nearest_size(value)}")
    if number > LARGEST:
        raise ValueError(f"a size is at most {LARGEST >> 40}TiB")
    return number


def _nearest_size(value: object) -> str:
    """For 16k, 16kb, 1Mi: the same in a valid unit, powers of two."""
    match = _NUMBER_AND_WORD.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2][0].upper() not in "KMGT":
        return ""
    return f" (did you mean {match[1]}{match[2][0].upper()}iB?)"


def rate(value: object) -> float:
    """A text such as 500/s, 10KiB/s, 600/m as a number, or bytes, per second. Raises ValueError."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is not None:
            return size(int(match[1]) if match[1].isdecimal() else match[1]) / _SECONDS[match[2]]
    except ValueError:
        pass
    raise ValueError(f"expected a rate such as 500/s, 10KiB/s, 600/m{_nearest_rate(value)}")


def _nearest_rate(value: object) -> str:
    """For 10, 10r/s, 5 per minute: the same as a rate."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f" (did you mean {value}/s?)"
    match = _SPOKEN_RATE.fullmatch(value) if isinstance(value, str) else None
    return f" (did you mean {match[1]}/{match[2][0]}?)" if match else ""


def share(value: object) -> float:
    """A text such as 60% as a number from 0 to 1. Raises ValueError."""
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    number = float(match[1]) / 100 if match else -1.0
    if not 0 <= number <= 1:
        raise ValueError(f"expected a share from 0% to 100%{_nearest_share(value)}")
    return number


def _nearest_share(value: object) -> str:
    """For 20, 0.2: the same in per cent."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 100:
        return ""
    return f" (did you mean {value * 100 if value < 1 else value:g}%?)"


def size_text(number: int) -> str:
    """Bytes in the largest unit that divides them: 61440 → 60KiB."""
    for unit in ("GiB", "MiB", "KiB"):
        if number and number % _BYTES[unit] == 0:
            return f"{number // _BYTES[unit]}{unit}"
    return f"{number}B"


def version_text(load: int, history: int | None) -> str:
    """What a configuration is called: its version in the history, or, if it is not there, which load it is.

    The first load of a gateway is its start, and each reload makes another one; the history has numbers of its own.
    """
    return f"version {history}" if history is not None else f"load {load}"


def clock_text(seconds: float) -> str:
    """A time in seconds since 1970 as the clock of this machine shows it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
