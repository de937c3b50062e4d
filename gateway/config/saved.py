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
    includes: frozenset[str] | None = None
    """The items of `include` of which `files` has all files; None: every one of `text`."""
    users: Mapping[Path, bytes] = field(default_factory=dict)
    """Files of users, which are used as nothing else: their hashes are secret."""

    def lists(self, pattern: str) -> bool:
        """Whether `files` has all files of an item of `include`."""
        return self.includes is None or pattern in self.includes
