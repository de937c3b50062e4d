"""What an import made of each line of a configuration."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

Fate = Literal["taken over", "not needed", "approximated", "not possible"]
FATES: Final[tuple[Fate, ...]] = ("taken over", "not needed", "approximated", "not possible")
"""From the best to the worst."""


_REFUSES: Final = re.compile(
    r"(?:http-request|tcp-request\s+\S+)\s+(?:deny|tarpit|reject|silent-drop|auth)\b|"
    r"(?:deny|auth_basic|auth_request|auth_jwt|internal|limit_except|valid_referers|secure_link\w*|satisfy)\b|"
    r"return\s+4\d\d\b"
)
"""Lines that keep requests away from servers, of HAProxy and of nginx."""


class BadInput(Exception):
    """The configuration cannot be read: a message with its file and line."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}" if line else f"{path}: {message}")


class NotPossible(Exception):
    """Something has no counterpart here: why, and what to do instead."""


MISFITS: Final = (NotPossible, ValueError, IndexError, KeyError)
"""What comes of a line that has no counterpart, or that has too few words, or wrong ones."""


def reason(error: Exception) -> str:
    """Why a line is left out."""
    return str(error) if isinstance(error, NotPossible) else "was not understood: write it in the site file by hand"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the configuration, or one of the directives on it; `text` is its words."""

    path: Path
    number: int
    text: str

    @property
    def place(self) -> tuple[str, int]:
        """Where it stands, to sort by."""
        return str(self.path), self.number

    def __str__(self) -> str:
        return f"{self.path}:{self.number}"


@dataclass(slots=True)
class Entry:
    """What became of a line; the notes say how, or why not and what to do instead."""

    fate: Fate = "taken over"
    notes: list[str] = field(default_factory=list)

    def add(self, fate: Fate, note: str) -> None:
        """Add what is known of a part of the line; the worst part decides."""
        self.fate = max(self.fate, fate, key=FATES.index)
        if note and note not in self.notes:
            self.notes.append(note)


class Report:
    """The lines of a configuration in order, each with its entry."""

    def __init__(self) -> None:
        self.entries: dict[Line, Entry] = {}

    def taken(self, line: Line, note: str = "") -> None:
        """Its meaning is in the site file."""
        self.entries.setdefault(line, Entry()).add("taken over", note)

    def needless(self, line: Line, note: str) -> None:
        """It has no counterpart, and none is missed."""
        self.entries.setdefault(line, Entry()).add("not needed", note)

    def approximated(self, line: Line, how: str) -> None:
        """The site file has something similar."""
        self.entries.setdefault(line, Entry()).add("approximated", how)

    def impossible(self, line: Line, why: str) -> None:
        """It is left out; `why` also says what to do instead."""
        self.entries.setdefault(line, Entry()).add("not possible", why)

    def counts(self) -> dict[Fate, int]:
        """How many lines have which fate."""
        found = Counter(entry.fate for entry in self.entries.values())
        return {fate: found[fate] for fate in FATES}

    def admits_more(self) -> list[Line]:
        """Lines that refuse requests and are left out: the site file admits what the configuration does not."""
        lost = (line for line, entry in self.entries.items() if entry.fate == "not possible")
        refusing = {line.place: line for line in lost if _REFUSES.match(line.text)}  # one may have several directives
        return [line for _, line in sorted(refusing.items())]

    def text(self) -> str:
        """The report for people: a line of the configuration, then its notes, indented."""
        lines = []
        for line, entry in sorted(self.entries.items(), key=lambda item: item[0].place):
            lines.append(f"{line}: {entry.fate}: {line.text}")
            lines += [f"    {note}" for note in entry.notes]
        lines.append(", ".join(f"{count} {fate}" for fate, count in self.counts().items()))
        if lost := self.admits_more():
            lines.append(
                f"the site file admits requests that these {len(lost)} lines refuse; write routes for them before it is"
                f" used: {', '.join(map(str, lost))}"
            )
        return "\n".join(lines)

    def data(self) -> list[dict[str, object]]:
        """The report as data."""
        return [
            {"path": str(line.path), "line": line.number, "text": line.text, "fate": entry.fate, "notes": entry.notes}
            for line, entry in sorted(self.entries.items(), key=lambda item: item[0].place)
        ]
