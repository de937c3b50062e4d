"""Splits a configuration of HAProxy into sections and words (HAProxy's configuration manual, sections 2.1 to 2.3)."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.importing.hidden import without_secrets
from gateway.importing.report import BadInput, Line

LONGEST: Final = 16 * 1024 * 1024
"""Bytes of a configuration."""
SECTIONS: Final = frozenset(
    [
        "global",
        "defaults",
        "frontend",
        "backend",
        "listen",
        "peers",
        "userlist",
        "resolvers",
        "mailers",
        "program",
        "cache",
        "ring",
        "fcgi-app",
        "http-errors",
    ]
)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", **{char: char for char in " \\\"'#$"}}
"""Before any other character a backslash stays, as in `\\1`."""
_PIECE: Final = re.compile(r"\\(?P<escaped>.)|\$\{(?P<variable>\w+)(?:-(?P<default>[^}]*))?\}|.", re.DOTALL)
"""A character, an escaped one, or a variable."""


@dataclass(slots=True)
class Statement:
    """A line: its first words are a keyword with what belongs to it."""

    line: Line
    words: list[str]

    @property
    def keyword(self) -> str:
        """The first word."""
        return self.words[0]

    @property
    def arguments(self) -> list[str]:
        """The words after the keyword."""
        return self.words[1:]


@dataclass(slots=True)
class Section:
    """A section with its statements, those of its defaults first."""

    kind: str
    name: str
    line: Line
    statements: list[Statement] = field(default_factory=list)

    def all(self, *keywords: str) -> Iterator[Statement]:
        """The statements of these keywords."""
        return (statement for statement in self.statements if statement.keyword in keywords)

    def last(self, *words: str) -> Statement | None:
        """The last statement that begins with these words, the one that counts."""
        found = [each for each in self.statements if tuple(each.words[: len(words)]) == words]
        return found[-1] if found else None


def read(path: Path) -> str:
    """The text of a configuration. Raises BadInput."""
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except OSError as error:
        raise BadInput(path, 0, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > LONGEST:
        raise BadInput(path, 0, f"has more than {LONGEST // 1024 // 1024} MiB: not a configuration")
    if (at := data.find(b"\0")) >= 0:
        raise BadInput(path, data.count(b"\n", 0, at) + 1, "has a zero byte: not a configuration")
    return data.decode("utf-8", "replace")


def sections(path: Path) -> list[Section]:
    """The sections of a configuration in order, `defaults` merged into those that follow. Raises BadInput."""
    found: list[Section] = []
    defaults: dict[str, Section] = {}
    latest: Section | None = None
    for number, text in enumerate(read(path).split("\n"), 1):
        words = split(text, path, number)
        if not words:
            continue
        line = Line(path, number, without_secrets(words)[:200])
        if words[0] in SECTIONS:
            kind, name = words[0], words[1] if len(words) > 1 else ""
            if kind in ("frontend", "backend", "listen") and not name:
                raise BadInput(path, number, f"a section {kind} needs a name: {kind} NAME")
            section = Section(kind, name, line)
            base = defaults.get(words[words.index("from") + 1]) if "from" in words[:-1] else latest
            if base is not None and kind in ("frontend", "backend", "listen"):
                section.statements += base.statements
            if kind == "defaults":
                latest = section
                defaults[name] = section
            found.append(section)
        elif words[0].startswith(".") and words[0][1:] in ("if", "elif", "else", "endif"):
            raise BadInput(
                path, number, f"{words[0]} cannot be imported: keep the lines of one case, remove the others"
            )
        elif not found:
            raise BadInput(path, number, f"expected a section such as global, defaults or frontend, not {words[0]}")
        else:
            found[-1].statements.append(Statement(line, words))
    if not any(section.kind in ("frontend", "listen") for section in found):
        raise BadInput(path, 0, "there is no frontend and no listen: is this a configuration of HAProxy?")
    return found


def split(text: str, path: Path, number: int) -> list[str]:
    """The words of a line, without quotes, escapes and comments. Raises BadInput."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    for piece in _PIECE.finditer(text):
        char, plain = piece[0], piece[0]
        if not quote and char == "#":
            break
        if not quote and char in " \t\r":
            if word is not None:
                words.append(word)
            word = None
            continue
        if char == quote or (not quote and char in "\"'"):
            quote = "" if quote else char
            plain = ""
        elif piece["escaped"] and quote != "'":
            plain = _ESCAPES.get(piece["escaped"], char)
        elif piece["variable"] and quote == '"':
            plain = os.environ.get(piece["variable"], piece["default"] or "")
        word = (word or "") + plain
    if quote:
        raise BadInput(path, number, f"the quote {quote} is not closed")
    return [*words, word] if word is not None else words
