"""Keys that are planned but not supported yet: they are refused by name, never silently ignored.

To support a key, remove its entry here.
"""

from typing import Final

KEYS: Final = {
    "": "maintenance",
}
"""Keys by the mapping they belong to; "*" stands for a name or an index."""


def is_later(mapping: str, key: str) -> bool:
    """Whether `key` of `mapping` (a pattern as in `KEYS`) is planned but not supported yet."""
    return key in KEYS.get(mapping, "").split()
