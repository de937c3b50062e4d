"""The files of users that a site and its Apache rules name, which are taken up when they change."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config import htpasswd, named_file
from gateway.config.file_stamp import Stamps, stamp_of

if TYPE_CHECKING:
    from gateway.config.apache_rules import Rules
    from gateway.config.model import Site


def paths(site: "Site", rules: "Mapping[Path, Rules]") -> Iterator[Path]:
    """Yield the file of each basic_auth and AuthUserFile; of several, more than once. `rules`: by their file."""
    for route in site.routes:
        if route.basic_auth is not None:
            yield route.basic_auth.file
        if route.apache is not None:
            yield from of_rules(route.apache.file, rules[route.apache.file]).values()


def of_rules(file: Path, rules: "Rules") -> dict[str, Path]:
    """The path of each AuthUserFile in the rules of `file`, by how it is written there (relative to that file)."""
    return {name: file.parent / name for name in sorted(rules.user_files)}


def stamps(site: "Site", rules: "Mapping[Path, Rules]") -> Stamps:
    """The stamps of all of them, without opening any."""
    return {str(path): stamp_of(path) for path in paths(site, rules)}


def content(path: Path) -> bytes:
    """The content of a file without faults. Raises OSError; ValueError with the reason."""
    found = named_file.read(path, private=False)
    try:
        htpasswd.parse(found)
    except htpasswd.BadUsers as error:
        raise ValueError("; ".join(f"{path}:{line}: {fault}" for line, fault in error.faults)) from None
    return found
