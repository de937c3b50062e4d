"""The mark of a visitor whom another site has sent here: who has it is not sent away again.

It goes with the redirect, in the query, because no cookie goes from one domain to another; who arrives with it gets it
as a cookie, for the requests that follow. It names the site and the second it was made, and is signed (HMAC-SHA256, RFC
2104, cut to 80 bits) with the key that the sites share: only a site can give it, and only for LIFETIME.
"""

import hmac
import re
from typing import Final

NAME: Final = "gwsite"
"""Of the parameter and of the cookie."""
LIFETIME: Final = 600
"""Seconds."""
SKEW: Final = 60
"""Seconds that the clocks of two sites may differ by."""
_MARK: Final = re.compile(rb"([A-Za-z0-9._:-]{1,64})\.([0-9a-f]{8})\.([0-9a-f]{20})")
_PARAMETER: Final = re.compile(rb"(?:^|&)gwsite=([A-Za-z0-9._:-]{31,96})(?=&|$)")
_CONTEXT: Final = b"eddie site visit\0"


def mark(key: bytes, site: str, now: float) -> bytes:
    """The mark that `site` gives a visitor; `now` in seconds since 1970."""
    body = b"%s.%08x" % (site.encode(), int(now) & 0xFFFFFFFF)
    return body + b"." + _tag(key, body)


def sender(key: bytes, found: bytes, now: float) -> str | None:
    """The site that gave this mark, or None: it is none, too old, or not signed by a site."""
    match = _MARK.fullmatch(found)
    if match is None or not hmac.compare_digest(_tag(key, found.rpartition(b".")[0]), match[3]):
        return None
    age = now - int(match[2], 16)
    return match[1].decode() if -SKEW <= age <= LIFETIME else None


def without(uri: bytes) -> tuple[bytes, bytes | None]:
    """A path with its query, without marks; and the last of them, None if there is none."""
    path, question, query = uri.partition(b"?")
    if not question:
        return uri, None
    marks = _PARAMETER.findall(query)
    if not marks:
        return uri, None
    rest = _PARAMETER.sub(b"", query).lstrip(b"&")
    return path + b"?" + rest if rest else path, marks[-1]


def with_mark(uri: bytes, given: bytes) -> bytes:
    """A path with its query, and with this mark alone."""
    uri = without(uri)[0]
    return uri + (b"&" if b"?" in uri else b"?") + NAME.encode() + b"=" + given


def _tag(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + body, "sha256")[:10].hex().encode()
