"""The site file and the files that it includes, as one document whose parts know where they come from."""

import fnmatch
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.config.document import Document, Place, SyntaxFault
from gateway.config.problem import Finding, Loc, Problem, Severity, is_plain_word, suggest
from gateway.config.saved import SavedSite
from gateway.system import regular_file

KEY: Final = "include"
LISTS: Final = ("frontends", "routes", "tests")
"""Of these, an included file adds items, before those of the site file;"""
MAPPINGS: Final = ("backends", "maps", "pages")
"""and of these entries, whose names no other file has."""
SUFFIXES: Final = (".yaml", ".yml")
MOST: Final = 1000
"""Included files."""
MAX_BYTES: Final = 16 * 1024 * 1024
"""Of all of them, and of the site file."""


class Spot(NamedTuple):
    """A position for people; line and column count from 1."""

    path: Path
    line: int
    column: int

    @property
    def short(self) -> str:
        """File and line."""
        return f"{self.path}:{self.line}"


@dataclass(slots=True)
class _Part:
    path: Path
    document: Document


@dataclass(slots=True)
class Composed:
    """`data` is that of all files together. `texts` has the contents of the included ones.

    `problems`: of single files, and of names that two of them have. `broken`: some file is not part of the data.
    """

    main: Path
    data: Any
    texts: dict[Path, bytes] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    broken: bool = False
    _parts: list[_Part] = field(default_factory=list)
    _items: dict[Loc, tuple[int, str | int]] = field(default_factory=dict)
    """Which part has an item of LISTS or MAPPINGS, and its index or name there."""

    def spot(self, finding: Finding) -> Spot:
        """Where the value or key of a finding is."""
        number, loc = self._origin(finding.loc)
        place = self._parts[number].document.place(
            Finding(loc, finding.message, key=finding.key, offset=finding.offset)
        )
        return _spot(self._parts[number].path, place)

    def problem(self, finding: Finding) -> Problem:
        """The finding with its position."""
        return _problem(self.spot(finding), finding.message, finding.severity)

    def refuse(self, spot: Spot, message: str) -> None:
        """An included file cannot be used."""
        self.problems.append(_problem(spot, message))
        self.broken = True

    def _origin(self, loc: Loc) -> tuple[int, Loc]:
        found = self._items.get(loc[:2])
        if found is not None:
            return found[0], (loc[0], found[1], *loc[2:])
        holding = (number for number, part in enumerate(self._parts) if loc and loc[0] in _keys(part.document.data))
        return next(holding, 0), loc

    def add(self, part: _Part) -> None:
        """Add what a file has to the data."""
        number = len(self._parts)
        self._parts.append(part)
        self.problems += [_problem(_spot(part.path, place), text) for text, place in part.document.duplicates]
        data = part.document.data
        for key in LISTS:
            if isinstance(data.get(key), list):
                items = self.data.setdefault(key, [])
                for index, item in enumerate(data[key]):
                    self._items[key, len(items)] = number, index
                    items.append(item)
        for key in MAPPINGS:
            if isinstance(data.get(key), dict):
                entries = self.data.setdefault(key, {})
                for name, entry in data[key].items():
                    if name in entries:
                        self._twice(key, name, number)
                        continue
                    self._items[key, name] = number, name
                    entries[name] = entry

    def _twice(self, key: str, name: str, number: int) -> None:
        first = self.spot(Finding((key, name), "", key=True))
        place = self._parts[number].document.place(Finding((key, name), "", key=True))
        message = f"{name} is given twice in {key} (first in {first.short})"
        self.problems.append(_problem(_spot(self._parts[number].path, place), message))


def compose(path: Path, text: str, saved: SavedSite | None = None) -> Composed:
    """The site file `text` with the files that it includes; those of `saved` are not read from the disk.

    Raises SyntaxFault for the site file; what is wrong with the others is among the problems.
    """
    document = Document(text)
    main = _Part(path, document)
    wanted = document.data.get(KEY) if isinstance(document.data, dict) else None
    if wanted is None or not _well_formed(document.data):
        whole = Composed(path, document.data, _parts=[main])
        whole.problems += [_problem(_spot(path, place), said) for said, place in document.duplicates]
        return whole
    kept = {key: value for key, value in document.data.items() if key not in (*LISTS, *MAPPINGS)}
    made = Composed(path, kept)
    # The site file comes last, for its routes end with what is for all other requests; it is the first part.
    made._parts.append(main)  # noqa: SLF001 - made here
    for index, pattern in enumerate(wanted if isinstance(wanted, list) else [wanted]):
        loc: Loc = (KEY, index) if isinstance(wanted, list) else (KEY,)
        try:
            for each in _matching(path.absolute().parent, pattern, saved):
                _read(made, each, saved)
        except ValueError as error:
            made.refuse(made.spot(Finding(loc, str(error))), str(error))
    del made._parts[0]  # noqa: SLF001
    made._items = {key: (number - 1, at) for key, (number, at) in made._items.items()}  # noqa: SLF001
    made.add(main)
    return made


def _well_formed(data: Mapping[str, Any]) -> bool:
    """Whether everything that is put together has the right shape; otherwise the model says what is wrong."""
    wanted = data[KEY]
    texts = isinstance(wanted, str) or (isinstance(wanted, list) and all(isinstance(item, str) for item in wanted))
    lists = all(isinstance(data.get(key, []), list) for key in LISTS)
    return texts and lists and all(isinstance(data.get(key, {}), dict) for key in MAPPINGS)


def _matching(directory: Path, pattern: str, saved: SavedSite | None) -> list[Path]:
    """The files of a directory, those that match, or the one of that name, in the order of their names.

    Raises ValueError if a directory cannot be read.
    """
    place = directory / pattern
    many = any(char in place.name for char in "*?[")
    if saved is not None and saved.lists(pattern):
        is_directory = not many and place not in saved.files
        inside = place if is_directory else place.parent
        names = [item for item in saved.files if item.parent == inside] if is_directory or many else [place]
    elif saved is not None and place in saved.files:
        return [place]
    else:
        inside = place
        try:
            is_directory = place.is_dir()
            inside = place if is_directory else place.parent
            names = [item for item in inside.iterdir() if not item.is_dir()] if is_directory or many else [place]
        except OSError as error:
            raise ValueError(f"cannot read {inside}: {(error.strerror or str(error)).lower()}") from None
    if is_directory:
        names = [item for item in names if item.suffix in SUFFIXES and not item.name.startswith(".")]
    elif many:
        names = [item for item in names if fnmatch.fnmatchcase(item.name, place.name) and not item.name.startswith(".")]
    if len(names) > MOST:
        raise ValueError(f"more than {MOST} files in {inside}")
    return sorted(names)


def _read(made: Composed, path: Path, saved: SavedSite | None) -> None:
    """Read an included file and add it; its faults are among the problems."""
    start = Spot(path, 1, 1)
    left = MAX_BYTES - sum(map(len, made.texts.values()))
    kept = saved.files if saved is not None else {}
    try:
        content = bytes(kept[path]) if path in kept else regular_file.read(path, left + 1)[0]
        if path in made.texts or len(content) > left:
            made.refuse(start, "included twice" if path in made.texts else "the included files are larger than 16MiB")
            return
        made.texts[path] = content
        document = Document(content.decode("utf-8-sig"))
    except OSError as error:
        made.refuse(start, f"cannot read it: {(error.strerror or str(error)).lower()}")
    except UnicodeDecodeError:
        made.refuse(start, "not UTF-8")
    except SyntaxFault as fault:
        if str(fault) != "the file is empty":
            made.refuse(_spot(path, fault.place), fault.discreet)
    else:
        faults = list(_faults(document.data))
        for found in faults:
            made.refuse(_spot(path, document.place(found)), found.message)
        if not faults:
            made.add(_Part(path, document))


def _faults(data: Any) -> Iterator[Finding]:
    """What an included file cannot have."""
    allowed = (*LISTS, *MAPPINGS)
    if not isinstance(data, dict):
        yield Finding((), f"expected a mapping with some of {', '.join(allowed)}")
        return
    for key, value in data.items():
        if key == KEY:
            yield Finding((key,), "only the site file includes others", key=True)
        elif key not in allowed:
            # An applied site file may name any file of this machine: a line of a secret one is not quoted.
            said, near = (key, suggest(key, allowed)) if is_plain_word(key) else ("this key", "")
            message = f"{said} stands in the site file itself; an included file may have {', '.join(allowed)}{near}"
            yield Finding((key,), message, key=True)
        elif not isinstance(value, list if key in LISTS else dict):
            yield Finding((key,), f"expected a {'list' if key in LISTS else 'mapping'}")


def _keys(data: Any) -> Collection[str]:
    return data.keys() if isinstance(data, dict) else ()


def _spot(path: Path, place: Place) -> Spot:
    return Spot(path, place.line + 1, place.column + 1)


def _problem(spot: Spot, message: str, severity: Severity = "error") -> Problem:
    return Problem(*spot, message, severity)


def in_order(problems: Sequence[Problem], main: Path) -> list[Problem]:
    """Sort them by position, those of the site file first."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda item: (item.path != main, str(item.path), item.line, item.column))
