"""What is wrong with a site file, and where.

Three stages of the same thing: a `Fault` is raised by a parser that sees one value only; a `Finding` knows
which key of the file the value belongs to; a `Problem` knows line and column, and is what a person reads.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, TypeAlias

from loadagent.printable import printable

Loc: TypeAlias = tuple[str | int, ...]
"""The way to a value from the top of the file: keys of mappings and indices of lists."""

SHOWN: Final = 50
"""Problems that a message spells out: one mistake in a file that a program wrote comes ten thousand times."""

Severity: TypeAlias = Literal["error", "warning"]


class Fault(ValueError):
    """A value that cannot be used.

    `at` leads from the value to the offending part inside it; `key` says that the key is at fault rather than
    what it holds; `offset` is the index of the offending character in the text.
    """

    def __init__(self, message: str, *at: str | int, key: bool = False, offset: int = 0) -> None:
        super().__init__(message)
        self.at: Loc = at
        self.key = key
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at `loc`; see `Fault` for `key` and `offset`."""

    loc: Loc
    message: str
    key: bool = False
    offset: int = 0
    severity: Severity = "error"


@dataclass(frozen=True, slots=True)
class Problem:
    """One line for a person to read; `line` and `column` count from 1."""

    path: Path
    line: int
    column: int
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        warning = "warning: " if self.severity == "warning" else ""
        return printable(f"{self.path}:{self.line}:{self.column}: {warning}{self.message}")


class ConfigError(Exception):
    """A site file that cannot be used. `problems` holds all that is wrong with it, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        shown = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            shown.append(f"and {len(self.problems) - SHOWN:,} more")
        return "\n".join(shown)


def suggest(word: str, known: Iterable[str]) -> str:
    """The words of `known` nearest to `word` as " (did you mean x?)", or "" when nothing is near."""
    # Letter case is the commonest slip, and the only one the ratio of difflib punishes too hard.
    spellings = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), spellings, n=1, cutoff=0.6)
    return f" (did you mean {spellings[near[0]]}?)" if near else ""


def kind(value: object) -> str:
    """What a value of the file is, in plain words."""
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
