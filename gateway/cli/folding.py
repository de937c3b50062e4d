"""Breaks lines for a terminal at spaces, so that the rest of a line stands where its text begins. Pure.

A word that is longer than a line stays whole: a URL or a token is to be copied.
"""

import re
import textwrap
from typing import Final

NARROWEST: Final = 40
"""Columns below which nothing is broken."""
_STEM: Final = re.compile(r"[│ ├└]*(?:─ |→ )? *")
_GOES_ON: Final = str.maketrans("├└─→", "│   ")


def folded(text: str, width: int) -> str:
    """The text in lines of `width` columns."""
    if width < NARROWEST:
        return text
    return "\n".join(part for line in text.split("\n") for part in _folded(line, width))


def _folded(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    found = _STEM.match(line)
    stem = found[0] if found is not None else ""
    goes_on = stem.translate(_GOES_ON) + "  "
    return textwrap.wrap(
        line[len(stem) :], width, initial_indent=stem, subsequent_indent=goes_on,
        break_long_words=False, break_on_hyphens=False, replace_whitespace=False, expand_tabs=False,
    )  # fmt: skip
