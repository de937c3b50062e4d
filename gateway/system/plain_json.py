"""Reads JSON of another process or a file: nested only so deep that what walks through it comes to its end."""

import json
from typing import Any, Final

DEEPEST: Final = 64
"""Levels; what a gateway says has ten."""


def parse(text: bytes | bytearray | str) -> Any:
    """The value of a text. Raises ValueError."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(DEEPEST):
        inner = [item for item in level if isinstance(item, dict | list)]
        if not inner:
            return value
        level = [item for each in inner for item in (each.values() if isinstance(each, dict) else each)]
    raise ValueError("nested too deeply")
