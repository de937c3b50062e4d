"""Site tokens: they mark a client that another site has redirected here, so that it is not redirected again.

The redirect carries the token in the query, because cookies do not cross domains; the receiving site stores it in a
cookie for the requests that follow. A token names the site and the second at which it was made, and is signed
(HMAC-SHA256, RFC 2104, truncated to 80 bits) with the key that the sites share. It is valid for LIFETIME.
"""

import hmac
import re
from typing import Final

NAME: Final = "gwsite"
"""Name of the query parameter and of the cookie."""
SENT: Final = "gwsent"
"""Name of the cookie at the site that has redirected a client, so that it goes to the same site again."""
LIFETIME: Final = 600
"""Seconds."""
SKEW: Final = 60
"""Largest difference in seconds between the clocks of two sites."""
_MARK: Final = re.compile(rb"([A-Za-z0-9._:-]{1,64})\.([0-9a-f]{8})\.([0-9a-f]{20})")
_PARAMETER: Final = re.compile(rb"(?:^|&)gwsite=([A-Za-z0-9._:-]{31,96})(?=&|$)")
VISIT: Final = b"eddie site visit\0"
"""What a token is for: it names the site that the client comes from."""
DESTINATION: Final = b"eddie site destination\0"
"""It names the site that the client was sent to."""


def mark(key: bytes, site: str, now: float, purpose: bytes = VISIT) -> bytes:
    """Make a token that names `site`; `now` in seconds since 1970."""
    body = b"%s.%08x" % (site.encode(), int(now) & 0xFFFFFFFF)
    return body + b"." + _tag(key, body, purpose)


def read(key: bytes, found: bytes, now: float, purpose: bytes = VISIT) -> tuple[str, float] | None:
    """The site that a token names, and its age in seconds; None: it is invalid, expired or not signed with the key."""
    match = _MARK.fullmatch(found)
    if match is None or not hmac.compare_digest(_tag(key, found.rpartition(b".")[0], purpose), match[3]):
        return None
    age = now - int(match[2], 16)
    return (match[1].decode(), age) if -SKEW <= age <= LIFETIME else None


def sender(key: bytes, found: bytes, now: float) -> str | None:
    """The site that made this token, or None if it is invalid, expired or not signed with the key."""
    token = read(key, found, now)
    return token[0] if token is not None else None


def without(uri: bytes) -> tuple[bytes, bytes | None]:
    """Remove all tokens from a path with its query; also return the last of them, or None."""
    path, question, query = uri.partition(b"?")
    if not question:
        return uri, None
    marks = _PARAMETER.findall(query)
    if not marks:
        return uri, None
    rest = _PARAMETER.sub(b"", query).lstrip(b"&")
    return path + b"?" + rest if rest else path, marks[-1]


def with_mark(uri: bytes, given: bytes) -> bytes:
    """The path and query with this token as the only one."""
    uri = without(uri)[0]
    return uri + (b"&" if b"?" in uri else b"?") + NAME.encode() + b"=" + given


def _tag(key: bytes, body: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, purpose + body, "sha256")[:10].hex().encode()
