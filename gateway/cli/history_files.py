"""Writes the files of a version of the history over those that are there now, and takes that back."""

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.supervisor.history import Version
from gateway.supervisor.last_good import LIMIT
from gateway.system import regular_file


class NotWritten(Exception):
    """A file cannot be written, or not as it was; the text says why."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """A file that was written. `before`: its content until then; None: there was no file."""

    path: Path
    before: bytes | None
    after: bytes
    known: int | None = None
    """The version that has the content of before,"""
    copy: Path | None = None
    """or the file that has it now,"""
    fresh: bool = False
    """which was made for it."""

    def __str__(self) -> str:
        if self.before is None:
            return "there was none"
        return f"what was there is {f'in version {self.known}' if self.copy is None else self.copy}"

    def take_back(self) -> None:
        """Let the file be as before, unless it has been changed since. Raises OSError."""
        now, _ = regular_file.read(self.path, LIMIT + 1)
        if now != self.after:
            raise OSError("it has been changed meanwhile")
        if self.before is None:
            self.path.unlink()
        else:
            regular_file.update(self.path, self.before)
        if self.fresh and self.copy is not None:
            self.copy.unlink()


def write(site: Path, version: Version, versions: Sequence[Version]) -> list[Replaced]:
    """Write those files of the version that differ; what no version of `versions` has is kept beside them.

    Raises NotWritten, and then the files are as before, or the text names those that are not.
    """
    done: list[Replaced] = []
    for path in (*version.saved.files, site):  # the site file last: it names the others
        held = {_content(each, path, site): each.number for each in versions}
        try:
            replaced = _replace(path, _content(version, path, site) or b"", held)
        except OSError as error:
            why = f"cannot write {path}: {(error.strerror or str(error)).lower()}"
            raise NotWritten(f"{why}; {take_back(done)}") from None
        done += [replaced] if replaced is not None else []
    return done


def take_back(done: Iterable[Replaced]) -> str:
    """Let all files be as before; says so, or which are not."""
    failed = []
    for replaced in done:
        try:
            replaced.take_back()
        except OSError as error:
            failed.append(f"{replaced.path} stays as it was written ({(error.strerror or str(error)).lower()})")
    return "; ".join(failed) or "the files are as before"


def _content(version: Version, path: Path, site: Path) -> bytes | None:
    """What a file of the version holds; None: the version has no such file."""
    if path == site:
        return version.saved.text.encode()
    content = version.saved.files.get(path)
    return bytes(content) if content is not None else None


def _replace(path: Path, content: bytes, held: Mapping[bytes | None, int]) -> Replaced | None:
    """Replace one file, whose owner and mode stay; None if it does not differ. `held`: contents that are in versions.

    Raises OSError.
    """
    path = Path(os.path.realpath(path))
    try:
        now, status = regular_file.read(path, LIMIT + 1)
    except FileNotFoundError:
        regular_file.replace(path, content, 0o600, durable=True)
        return Replaced(path, None, content)
    if now == content:
        return None
    if now in held:
        regular_file.update(path, content)
        return Replaced(path, now, content, known=held[now])
    if len(now) > LIMIT:
        raise OSError(f"it is larger than {LIMIT} bytes, so it cannot be kept")
    copy, fresh = _place(path, now)
    if fresh:
        regular_file.replace(copy, now, status.st_mode & 0o777, durable=True)
    try:
        regular_file.update(path, content)
    except OSError:
        if fresh:
            with suppress(OSError):
                copy.unlink()
        raise
    return Replaced(path, now, content, copy=copy, fresh=fresh)


def _place(path: Path, content: bytes) -> tuple[Path, bool]:
    """Where a copy of a file belongs, and whether it is not there yet: no other copy is overwritten. Raises OSError."""
    for number in itertools.count(1):
        place = path.with_name(f"{path.name}.replaced{f'.{number}' if number > 1 else ''}")
        try:
            if regular_file.read(place, LIMIT + 1)[0] == content:
                return place, False
        except FileNotFoundError:
            return place, True
    raise AssertionError("numbers have no end")
