r"""Patterns that consist of words only: `bot`, `bot|crawler`, `^/(css|js)/`, `\.(png|jpg|gif)$`.

They are matched by comparing bytes, without a regular expression engine.
"""

import re
from dataclasses import dataclass
from typing import Final

MAX_WORDS: Final = 32

_TOKEN: Final = re.compile(
    r"""
      (?: (?P<char> [^]\\[(){}*+?|.^$] ) | \\ (?P<escaped> [^0-9A-Za-z] ) ) (?![*+?{])
    | (?P<open> \( (?: \?: )? ) (?!\?)
    | (?P<close> \) ) (?![*+?{])
    | (?P<or> \| )
    | (?P<edge> [$^] )
    """,
    re.VERBOSE | re.DOTALL,
)
_Row = tuple[str, ...]
"""Characters, with "^" and "$" as the words "start" and "end"."""


@dataclass(frozen=True, slots=True)
class Word:
    """Bytes to be found anywhere in a text, or only at its start, its end, or as the whole text."""

    text: bytes
    start: bool = False
    end: bool = False


def words(pattern: str) -> tuple[Word, ...]:
    """The words one of which a text must contain for this pattern to match; empty: a pattern of another kind."""
    rows: list[_Row] = [()]  # the paths through the current alternative so far
    done: list[_Row] = []  # the paths through earlier alternatives
    outer: list[tuple[list[_Row], list[_Row]]] = []
    at = 0
    while at < len(pattern):
        match = _TOKEN.match(pattern, at)
        if match is None or len(rows) + len(done) > MAX_WORDS:
            return ()
        at = match.end()
        match match.lastgroup:
            case "open":
                outer.append((rows, done))
                rows, done = [()], []
            case "close":
                inner = done + rows
                rows, done = outer.pop()
                rows = [row + more for row in rows for more in inner]
            case "or":
                done += rows
                rows = [()]
            case "edge":
                rows = [(*row, "start" if match["edge"] == "^" else "end") for row in rows]
            case _:
                rows = [(*row, match["char"] or match["escaped"]) for row in rows]
    found = [_word(row) for row in done + rows]
    return tuple(word for word in found if word) if all(found) and len(found) <= MAX_WORDS else ()


def _word(row: _Row) -> Word | None:
    """None if an anchor is not at the edge."""
    start, end = row[:1] == ("start",), row[-1:] == ("end",)
    chars = row[start : len(row) - end]
    if any(len(char) > 1 for char in chars):
        return None
    return Word("".join(chars).encode("latin-1"), start, end)
