"""The part of the vocabulary that is known but does not work yet: refused by name, never silently ignored.

Supporting a key means taking its entry out of here.
"""

from typing import Final

KEYS: Final = {
    "": "dns maintenance",
    "frontends.*.tls": "acme client_ca require_client_cert",
    "backends.*": "tls",
}
"""Keys by the mapping they belong to; "*" stands for a name or an index."""


def is_later(mapping: str, key: str) -> bool:
    """Whether `key` of `mapping` (a pattern as in `KEYS`) is known but not supported yet."""
    return key in KEYS.get(mapping, "").split()
