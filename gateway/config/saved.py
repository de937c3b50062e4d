"""A copy of a site file and of the files that it names, from which the same configuration can be loaded again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Content: TypeAlias = bytes | memoryview
"""Of a file; a map's is the text in its table."""


@dataclass(frozen=True, slots=True)
class SavedSite:
    """The site file as it was loaded.

    Keys, tokens and certificates are not in `files`: they are read where the site file names them.
    """

    text: str = ""
    files: Mapping[Path, Content] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    """The environment variables that its values use."""
