"""The last good configuration: a copy of what the gateway runs by, for a start with a site file that has mistakes."""

import difflib
import json
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from gateway.config import ConfigError, Loaded, Site, environment
from gateway.config.document import Document, SyntaxFault
from gateway.config.loader import text_of
from gateway.config.saved import Content, SavedSite
from gateway.config.units import clock_text
from gateway.supervisor import state_file
from gateway.system import plain_json, regular_file

NAME: Final = "last-good"
LIMIT: Final = 128 * 1024 * 1024
"""Bytes of a copy."""
COMPARED: Final = 512 * 1024
"""Bytes of a file whose lines are compared with those of its copy."""
LINES: Final = 1000
"""Lines that are compared, once the equal ones at either end are left out."""
SHOWN: Final = 4000
"""Characters of the differences that are shown."""


class NoCopy(Exception):
    """There is no usable copy; the text says why."""


class Copied(BaseModel):
    """What is in the file of a copy. `files` are in base64."""

    model_config = ConfigDict(frozen=True, strict=True)

    format: Literal[1]
    at: float
    text: str
    variables: dict[str, str]
    files: dict[str, Annotated[bytes, BeforeValidator(b64decode)]]

    @property
    def saved(self) -> SavedSite:
        """What can be loaded again."""
        return SavedSite(self.text, {Path(name): each for name, each in self.files.items()}, self.variables)


def copied(loaded: Loaded) -> dict[str, Any]:
    """What the file of a copy has, for JSON."""
    source = loaded.source
    return {
        "format": 1,
        "site": str(loaded.path.absolute()),
        "at": time.time(),
        "text": source.text,
        "variables": dict(source.variables),
        "files": {str(path): b64encode(content).decode() for path, content in source.files.items()},
    }


@dataclass(frozen=True, slots=True)
class LastGood:
    """A copy that was found at `path`; the gateway ran by it `at` seconds since 1970."""

    path: Path
    at: float
    saved: SavedSite

    @property
    def when(self) -> str:
        """The time as this machine's clock shows it."""
        return clock_text(self.at)


def keep(loaded: Loaded) -> None:
    """Keep a copy of what this gateway runs by. Raises OSError."""
    content = json.dumps(copied(loaded)).encode()
    path = state_file.place(loaded.site.state, NAME, loaded.path)
    if len(content) > LIMIT:
        raise OSError(f"with its files it is larger than {LIMIT} bytes")
    state_file.write(path, content)


def find(site: Path) -> LastGood:
    """The copy for the site file at `site`, which may have mistakes or be gone. Raises NoCopy."""
    directories = list(dict.fromkeys(state_directories(site)))
    for directory in directories:
        path = state_file.place(directory, NAME, site)
        try:
            content = state_file.read(path, LIMIT)
            if content is not None:
                kept = Copied.model_validate(plain_json.parse(content))
                return LastGood(path, kept.at, kept.saved)
        except OSError as error:
            raise NoCopy(f"the last good configuration cannot be read: {error}") from None
        except (ValueError, ValidationError):
            raise NoCopy(f"{path} is damaged, or of another version") from None
    raise NoCopy(f"{' and '.join(map(str, directories))} {'has' if len(directories) == 1 else 'have'} no copy of it")


def state_directories(site: Path) -> Iterator[Path]:
    """Where copies may be: in the `state` of the file, mistakes and all, or in the usual directory."""
    with suppress(ConfigError):
        text = text_of(site)
        for part in (text, "\n".join(line for line in text.splitlines() if line.startswith("state:"))):
            if name := _state_of(part):
                yield site.absolute().parent / name
                break
    yield Path(Site.model_fields["state"].default)


def _state_of(text: str) -> str:
    """The value of `state` in a text, which may be wrong elsewhere; empty if there is none."""
    with suppress(SyntaxFault):
        data: Any = Document(text).data
        if isinstance(data, dict) and isinstance(data.get("state"), str):
            found = {"state": data["state"]}
            _, unset = environment.fill(found, os.environ)
            return "" if unset else str(found["state"])
    return ""


def changes(source: SavedSite, site: Path) -> str:
    """The lines that differ between what a configuration was made of and what its files say now, a part of them."""
    parts = []
    for path, before in [(site, source.text.encode()), *sorted(source.files.items())]:
        try:
            now, _ = regular_file.read(path, max(COMPARED, len(before)) + 1)
        except OSError as error:
            parts.append(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}")
            continue
        if now.removeprefix(b"\xef\xbb\xbf") != before:
            parts.append(_difference(str(path), before, now))
    text = "\n".join(parts)
    return text if len(text) <= SHOWN else text[:SHOWN].rpartition("\n")[0] + "\n…"


def differences(before: SavedSite, after: SavedSite, site: Path) -> str:
    """The lines that differ between two copies of the site file at `site` and of the files that they name."""
    one, other = ({site: each.text.encode(), **each.files} for each in (before, after))
    parts = []
    for path in sorted({*one, *other}):
        if path not in one or path not in other:
            parts.append(f"{path}: {'gone' if path in one else 'new'}")
        elif bytes(one[path]) != bytes(other[path]):
            parts.append(_difference(str(path), one[path], bytes(other[path])))
    return "\n".join(parts)


def _difference(name: str, before: Content, now: bytes) -> str:
    if max(len(before), len(now)) <= COMPARED:
        old, new = (bytes(text).decode("utf-8", "replace").splitlines() for text in (before, now))
        start = _common(old, new)
        end = _common(old[start:][::-1], new[start:][::-1])
        old, new = old[start : len(old) - end], new[start : len(new) - end]
        if max(len(old), len(new)) <= LINES:
            return "\n".join([f"{name}:", *_changed_lines(old, new, start + 1)])
    return f"{name}: changed"


def _changed_lines(old: list[str], new: list[str], first: int) -> Iterator[str]:
    """The lines that are gone and those that came, with their numbers; `first` is that of the first of each."""
    for kind, old_start, old_end, new_start, new_end in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if kind != "equal":
            yield from (f"-{first + i}: {old[i]}" for i in range(old_start, old_end))
            yield from (f"+{first + i}: {new[i]}" for i in range(new_start, new_end))


def _common(one: list[str], other: list[str]) -> int:
    """How many lines at the start are equal."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
