"""The files of users that a site names, which are taken up when they change."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config import htpasswd, named_file
from gateway.config.file_stamp import Stamps, stamp_of

if TYPE_CHECKING:
    from gateway.config.model import Site


def paths(site: "Site") -> Iterator[Path]:
    """Yield the file of each basic_auth; of several, more than once."""
    for route in site.routes:
        if route.basic_auth is not None:
            yield route.basic_auth.file


def stamps(site: "Site") -> Stamps:
    """The stamps of all of them, without opening any."""
    return {str(path): stamp_of(path) for path in paths(site)}


def content(path: Path) -> bytes:
    """The content of a file without faults. Raises OSError; ValueError with the reason."""
    found = named_file.read(path, private=False)
    try:
        htpasswd.parse(found)
    except htpasswd.BadUsers as error:
        raise ValueError("; ".join(f"{path}:{line}: {fault}" for line, fault in error.faults)) from None
    return found
