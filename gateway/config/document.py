"""Parses YAML text into plain data, with the position of each key and value.

The data is built from parser events with an explicit stack. PyYAML's composer recurses in C, and a few hundred
kilobytes of "[" overflow its stack; its constructor implements YAML 1.1, where `no` is false and 22:30 is 1350. Here
plain scalars follow the core schema of YAML 1.2 (section 10.3), keys are always text, and depth and alias expansion
are limited.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import yaml
from yaml.reader import ReaderError

from gateway.config.problem import Finding, is_plain_word

MAX_DEPTH: Final = 32
"""Levels of nesting; the vocabulary needs eight."""
MAX_ALIASED: Final = 1_000_000
"""Total number of values that aliases may add."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_OCTAL: Final = re.compile(r"[-+]?0[0-9]+")
"""0660 stays text: some would read it as octal."""
_NUMBER: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?")
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MERGE: Final = "<<"
_NOT_PRINTABLE: Final = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""YAML 1.2 section 5.1."""


class Place(NamedTuple):
    """A position in the text; `offset`, `line` and `column` count from 0."""

    offset: int = 0
    line: int = 0
    column: int = 0

    @classmethod
    def at(cls, mark: Any) -> "Place":
        """From a mark of the parser; marks are stored unconverted, because few are ever used."""
        return cls(mark.index, mark.line, mark.column)


class SyntaxFault(Exception):
    """The text is not one YAML document of the accepted form. `quoted`: what the message has from the text."""

    def __init__(self, message: str, place: Place, quoted: str = "") -> None:
        super().__init__(message)
        self.place = place
        self._quoted = quoted

    @property
    def discreet(self) -> str:
        """The message for a text that may be no site file but a secret: it quotes plain words only."""
        return str(self).replace(self._quoted, "…") if self._quoted and not is_plain_word(self._quoted) else str(self)


_Marks: TypeAlias = dict[str | int, tuple[Any, Any]]
"""The parser's marks of keys and values, by key or index."""


@dataclass(slots=True)
class _Open:
    """A mapping or list that is still open; `marks` has the marks of its keys and values."""

    container: dict[str, Any] | list[Any]
    mark: Any
    anchor: str | None
    size: int = 1
    marks: _Marks = field(default_factory=dict)
    key: str | None = None
    key_mark: Any = None
    merging: bool = False
    merges: list[tuple[object, Any]] = field(default_factory=list)

    @property
    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.container, dict)


class Document:
    """The data of a YAML text, and the positions of its parts.

    `data` consists of dict (keys are str), list, str, int, float, bool and None; `root` is its position. `duplicates`
    lists repeated keys; parsing continues after them. Raises `SyntaxFault`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        builder = _Builder()
        builder.run(text)
        self.data = builder.data
        self.root = Place.at(builder.mark)
        self.duplicates = builder.duplicates
        self._marks = builder.marks

    def place(self, finding: Finding) -> Place:
        """The position of `finding`: its key or value, or the nearest enclosing part in the text."""
        value, place = self.data, self.root
        for depth, part in enumerate(finding.loc, 1):
            if part == 0 and isinstance(value, dict | str):
                continue  # a list of one that is written as its only item
            marks = self._marks.get(id(value), {}).get(part)
            if marks is None:
                break
            place = Place.at(marks[0] if finding.key and depth == len(finding.loc) else marks[1])
            value = value[part]
        return self._inside(value, place, finding.offset)

    def _inside(self, value: object, place: Place, offset: int) -> Place:
        """The position of a character in a scalar, if the text contains the scalar literally: not folded or escaped."""
        if not offset or not isinstance(value, str):
            return place
        quote = self.text[place.offset : place.offset + 1] in ("'", '"')
        start = place.offset + quote
        if self.text[start : start + offset] != value[:offset]:
            return place
        return Place(start + offset, place.line, place.column + quote + offset)


class _Builder:
    """Builds the data from parser events; `marks` are by the id of their container."""

    def __init__(self) -> None:
        self.data: Any = None
        self.mark: Any = None
        self.marks: dict[int, _Marks] = {}
        self.duplicates: list[tuple[str, Place]] = []
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[object, int] | None] = {}
        self.aliased = 0

    def run(self, text: str) -> None:
        try:
            for event in yaml.parse(text, Loader=_LOADER):
                self.feed(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place.at(mark) if mark else Place()
            if text[place.offset : place.offset + 1] == "\t":
                raise SyntaxFault("not valid YAML: a tab; indent with spaces", place) from None
            raise SyntaxFault(
                f"not valid YAML: {error.problem or error.context}{_quoting(text, place)}", place
            ) from None
        except ReaderError:
            raise SyntaxFault("not valid YAML: a control character", _control_character(text)) from None
        if self.mark is None:
            raise SyntaxFault("the file is empty", Place())

    def feed(self, event: Any) -> None:
        mark = event.start_mark
        match event:
            case yaml.ScalarEvent() if self.stack and self.stack[-1].wants_key:
                self.open_key(event, mark)
            case yaml.ScalarEvent():
                value = _scalar(event)
                if event.anchor is not None:
                    self.anchors[event.anchor] = (value, 1)
                self.add(value, mark, 1)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self.open(event, mark)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self.close()
            case yaml.AliasEvent():
                self.alias(str(event.anchor), mark)
            case yaml.DocumentStartEvent() if self.mark is not None:
                raise SyntaxFault("a second document starts here; a site file has only one", Place.at(mark))

    def open(self, event: Any, mark: Any) -> None:
        if event.tag is not None:
            raise SyntaxFault(f"the tag {event.tag} is not supported", Place.at(mark), event.tag)
        if len(self.stack) == MAX_DEPTH:
            raise SyntaxFault("nested too deeply", Place.at(mark))
        if self.stack and self.stack[-1].wants_key:
            raise SyntaxFault("expected text as the key", Place.at(mark))
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        container: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.stack.append(_Open(container, mark, event.anchor))

    def open_key(self, event: Any, mark: Any) -> None:
        top, key = self.stack[-1], event.value
        top.key, top.key_mark = key, mark
        top.merging = key == _MERGE and event.implicit[0]
        if key in top.marks and not top.merging:
            line = top.marks[key][0].line + 1
            self.duplicates.append((f"{key} is given twice (first on line {line})", Place.at(mark)))

    def close(self) -> None:
        done = self.stack.pop()
        for value, mark in done.merges:
            self.merge(done, value, mark)
        self.marks[id(done.container)] = done.marks
        if done.anchor is not None:
            self.anchors[done.anchor] = (done.container, done.size)
        self.add(done.container, done.mark, done.size)

    def alias(self, name: str, mark: Any) -> None:
        known = self.anchors.get(name)
        if known is None:
            why = f"*{name} would contain itself" if name in self.anchors else f"there is no &{name} above"
            raise SyntaxFault(why, Place.at(mark), name)
        value, size = known
        self.aliased += size
        if self.aliased > MAX_ALIASED:
            raise SyntaxFault("aliases make the file too large", Place.at(mark))
        if self.stack[-1].wants_key:
            raise SyntaxFault("expected text as the key", Place.at(mark))
        self.add(value, mark, size)

    def add(self, value: object, mark: Any, size: int) -> None:
        if not self.stack:
            self.data, self.mark = value, mark
            return
        top = self.stack[-1]
        top.size += size
        if isinstance(top.container, list):
            top.marks[len(top.container)] = (mark, mark)
            top.container.append(value)
            return
        key, top.key = top.key or "", None
        if top.merging:
            top.merges.append((value, mark))
        elif key not in top.container:
            top.container[key] = value
            top.marks[key] = (top.key_mark, mark)

    def merge(self, into: _Open, value: object, mark: Any) -> None:
        """The merge key `<<`: adds keys of one or several other mappings that this one does not have."""
        for source in value if isinstance(value, list) else [value]:
            if not isinstance(source, dict) or not isinstance(into.container, dict):
                raise SyntaxFault("<< takes a mapping or a list of mappings", Place.at(mark))
            for key in source.keys() - into.container.keys():
                into.container[key] = source[key]
                into.marks[key] = self.marks[id(source)][key]


def _scalar(event: Any) -> str | int | float | bool | None:
    value: str = event.value
    if event.tag is not None and event.tag not in ("!", "tag:yaml.org,2002:str"):
        raise SyntaxFault(f"the tag {event.tag} is not supported", Place.at(event.start_mark), event.tag)
    if event.tag is not None or not event.implicit[0]:
        return value
    return plain(value)


def plain(value: str) -> str | int | float | bool | None:
    """What a scalar without quotes is."""
    if value in _WORDS:
        return _WORDS[value]
    if value[0] in "+-.0123456789":
        if _INTEGER.fullmatch(value):
            return int(value)
        if _NUMBER.fullmatch(value) and not _OCTAL.fullmatch(value):
            return float(value)
    return value


_QUOTED_ALREADY: Final = re.compile(r"[\"']")
_NEEDS_QUOTES: Final = re.compile(r"(?<=[ \[{,:])([*&%@`!|>][^ ,\]}]*|[~^][^,]*[\[{(][^,]*)")
"""Text that means something to YAML if it has no quotes: "*.example.com", "~ ^/[a-z]"."""


def _quoting(text: str, place: Place) -> str:
    """What to put in quotes, if the line of a fault has text that needs them."""
    line = text[place.offset - place.column :].partition("\n")[0]
    if place.column >= len(line):  # the fault is at the end of what began before
        line = text[: place.offset].rstrip().rpartition("\n")[2]
    if "\N{LEFT DOUBLE QUOTATION MARK}" in line:
        return '; write " in place of typographic quotes'
    found = _NEEDS_QUOTES.search(line)
    if found is not None and not _QUOTED_ALREADY.search(line[: found.start()][-1:]):
        return f"; put text with signs such as {found[1][0]} in quotes"
    return ""


def _control_character(text: str) -> Place:
    """The position of the invalid character; one parser reports it in bytes, the other in characters."""
    found = _NOT_PRINTABLE.search(text)
    index = found.start() if found else 0
    return Place(index, text.count("\n", 0, index), index - text.rfind("\n", 0, index) - 1)
