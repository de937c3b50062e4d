"""The configurations that a gateway has run by: a copy of each in the state directory, the oldest ones given up."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from gateway import __version__
from gateway.config import Loaded
from gateway.config.saved import SavedSite
from gateway.config.units import clock_text
from gateway.supervisor import last_good, state_file
from gateway.supervisor.last_good import Copied, copied, state_directories
from gateway.system import plain_json, regular_file

NAME: Final = "history"
MOST: Final = 50
"""Versions of one site file."""
LARGEST: Final = 32 * 1024 * 1024
"""Bytes of the file of a version; one with half of that in its files is not kept."""
TOTAL: Final = 128 * 1024 * 1024
"""Bytes of all."""


class NoVersion(Exception):
    """There is no such version; the text says why."""


class _Kept(Copied):
    number: int
    by: str
    digest: str
    program: str


@dataclass(frozen=True, slots=True)
class Version:
    """A configuration that ran: from `at` on (seconds since 1970), because of `by`, in that version of the program."""

    number: int
    at: float
    by: str
    digest: str
    program: str
    saved: SavedSite

    @property
    def when(self) -> str:
        """The time as this machine's clock shows it."""
        return clock_text(self.at)


def record(loaded: Loaded, by: str) -> int:
    """Keep what a gateway runs by from now on, unless it is the same as before; its number. Raises OSError."""
    files = _files(loaded.site.state, loaded.path)
    latest = max(files, default=0)
    if latest:
        with suppress(OSError, ValueError, ValidationError):
            if _read(files[latest]).digest == loaded.digest:
                return latest
    size = len(loaded.source.text) + sum(len(content) for content in loaded.source.files.values())
    if size > LARGEST // 2:  # in base64 and JSON it grows
        raise OSError(f"with its files it is larger than {LARGEST // 2} bytes")
    whole = {**copied(loaded), "number": latest + 1, "by": by, "digest": loaded.digest, "program": __version__}
    content = json.dumps(whole).encode()
    state_file.write(_path(loaded.site.state, loaded.path, latest + 1), content)
    left = TOTAL - len(content)
    for kept, number in enumerate(sorted(files, reverse=True), 2):
        with suppress(FileNotFoundError):
            left -= files[number].stat().st_size
            if kept > MOST or left < 0:
                files[number].unlink()
    return latest + 1


def find(site: Path) -> list[Version]:
    """The versions of a site file, which may have mistakes or be gone, the oldest first. Raises NoVersion."""
    directories = list(dict.fromkeys(state_directories(site)))
    try:
        for directory in directories:
            files = _files(directory, site)
            if files:
                return [_version(_read(files[number])) for number in sorted(files)]
    except OSError as error:
        raise NoVersion(f"the history cannot be read: {error}") from None
    except (ValueError, ValidationError):
        raise NoVersion(f"a file of the history in {directories} is damaged, or of another version") from None
    raise NoVersion(f"there is no history of {site} in {' or '.join(map(str, directories))}")


def version(site: Path, number: int) -> Version:
    """One of them. Raises NoVersion."""
    return chosen(find(site), number)


def chosen(versions: list[Version], number: int) -> Version:
    """The one with a number. Raises NoVersion."""
    found = next((each for each in versions if each.number == number), None)
    if found is None:
        raise NoVersion(f"there is no version {number}: the history has {versions[0].number} to {versions[-1].number}")
    return found


def listing(site: Path, in_force: int | None) -> list[dict[str, Any]]:
    """What commands and the API say of all versions, the oldest first. Raises NoVersion.

    `in_force`: the number of the one that a gateway runs by; None: there is none.
    """
    versions = find(site)
    return [
        {**about(each), "same_as": same, "in_force": each.number == in_force}
        for each, same in zip(versions, repeats(versions), strict=True)
    ]


def about(one: Version) -> dict[str, Any]:
    """What they say of one."""
    return {"number": one.number, "at": one.at, "by": one.by, "digest": one.digest, "program": one.program}


def shown(site: Path, number: int) -> dict[str, Any]:
    """The site file of a version, and the files that it names which are not as they were then. Raises NoVersion."""
    one = version(site, number)
    return {
        **about(one),
        "text": one.saved.text,
        "differing": [str(path) for path in one.saved.files if _differs(one, path)],
    }


def _differs(one: Version, path: Path) -> bool:
    try:
        now, _ = regular_file.read(path, LARGEST)
    except OSError:
        return True
    return now != bytes(one.saved.files[path])


def compared(site: Path, before: int, after: int | None) -> dict[str, Any]:
    """The lines that differ between two versions, or between one and the files as they are now. Raises NoVersion."""
    one = version(site, before)
    if after is None:
        changes = last_good.changes(one.saved, site)
    else:
        changes = last_good.differences(one.saved, version(site, after).saved, site)
    return {"before": before, "after": after, "changes": changes}


def _files(directory: Path, site: Path) -> dict[int, Path]:
    """The files by the number of the version."""
    stem = state_file.place(directory, NAME, site).stem
    found = {}
    for path in directory.glob(f"{stem}-*.json"):
        number = path.stem.removeprefix(f"{stem}-")
        if number.isdigit():
            found[int(number)] = path
    return found


def _path(directory: Path, site: Path, number: int) -> Path:
    place = state_file.place(directory, NAME, site)
    return place.with_name(f"{place.stem}-{number:06}.json")


def _read(path: Path) -> _Kept:
    """Raises OSError, ValueError, ValidationError."""
    content = state_file.read(path, LARGEST)
    if content is None:
        raise FileNotFoundError(path)
    return _Kept.model_validate(plain_json.parse(content))


def _version(kept: _Kept) -> Version:
    return Version(kept.number, kept.at, kept.by, kept.digest, kept.program, kept.saved)


def repeats(versions: list[Version]) -> Iterator[int | None]:
    """For each version the number of the first one that is the same, None if it is that one."""
    first: dict[str, int] = {}
    for version in versions:
        same = first.setdefault(version.digest, version.number)
        yield None if same == version.number else same
