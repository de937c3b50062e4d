"""Problems of a site file, and their positions.

There are three stages: a parser that sees only one value raises a `Fault`; a `Finding` has the key of the value in the
file; a `Problem` has line and column, and is shown to people.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, TypeAlias

from loadagent.printable import printable

Loc: TypeAlias = tuple[str | int, ...]
"""The path to a value from the top of the file: keys of mappings and indices of lists."""

SHOWN: Final = 50
"""Largest number of problems in a message: a mistake in a generated file may occur ten thousand times."""

_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")

Severity: TypeAlias = Literal["error", "warning", "note"]
"""A note is what an offline check could not look at."""


class Fault(ValueError):
    """A value that is not valid.

    `at` leads from the value to the wrong part inside it; `key` means that the key is wrong rather than its value;
    `offset` is the index of the wrong character in the text.
    """

    def __init__(self, message: str, *at: str | int, key: bool = False, offset: int = 0) -> None:
        super().__init__(message)
        self.at: Loc = at
        self.key = key
        self.offset = offset


class Unreadable(Fault):
    """A file with a key or certificate cannot be read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem at `loc`; see `Fault` for `key` and `offset`."""

    loc: Loc
    message: str
    key: bool = False
    offset: int = 0
    severity: Severity = "error"


@dataclass(frozen=True, slots=True)
class Problem:
    """One line for people; `line` and `column` count from 1."""

    path: Path
    line: int
    column: int
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        severity = "" if self.severity == "error" else f"{self.severity}: "
        return printable(f"{self.path}:{self.line}:{self.column}: {severity}{self.message}")


class ConfigError(Exception):
    """The site file is not valid. `problems` lists all its problems, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        shown = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            shown.append(f"and {len(self.problems) - SHOWN:,} more")
        return "\n".join(shown)


def suggest(word: str, known: Iterable[str], closeness: float = 0.6) -> str:
    """The word of `known` closest to `word` as " (did you mean x?)", or "" if none is close; closeness: from 0 to 1."""
    # Case errors are the most common, and difflib's ratio penalizes only these too much.
    spellings = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), spellings, n=1, cutoff=closeness)
    return f" (did you mean {spellings[near[0]]}?)" if near else ""


def is_plain_word(text: str) -> bool:
    """Whether a text has the form of a key of site files, and not that of a line of another file."""
    return _PLAIN_WORD.fullmatch(text) is not None


def kind(value: object) -> str:
    """The kind of a value in the file, in plain words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f'"{value}"' if len(value) <= 40 else f'"{value[:37]}..."'
        case dict():
            return "a mapping"
        case _:
            return "a list"
