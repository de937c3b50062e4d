"""What the gateways of a cluster tell each other of sessions and rates, ten times a second. Pure.

    4 magic "GWQS" · 1 version · 8 time, ns since 1970 · 4 sessions · 4 clients that want one · 1 and the sender's name
    up to MOST times: 8 key, 8 ticks (signed) · 16 HMAC-SHA256, truncated

Integers are big-endian. The tag is over all that stands before (RFC 2104 section 5), with a key derived from the
cluster's. The receiver accepts a message only if it is fresh and newer than the last one from that node.
"""

import hmac
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

MAGIC: Final = b"GWQS"
MOST: Final = 80
"""Keys in a message: it fits into one Ethernet frame."""
MAX_BYTES: Final = 2048
FRESH: Final = 30.0
"""Seconds that the clocks of two gateways may differ."""
_VERSION: Final = 1
_HEAD: Final = struct.Struct("!4sBQIIB")
_KEY: Final = struct.Struct("!Qq")
_MAC_BYTES: Final = 16
_PURPOSE: Final = b"gateway qos news 1"
_LARGEST: Final = 2**32 - 1


class BadNews(ValueError):
    """Bytes that are no news of this cluster; the text says why."""


class News(NamedTuple):
    """Sessions of a gateway and clients that want one; by key of a rate, the ticks that its requests have used up."""

    node: str
    live: int
    wanting: int
    used: tuple[tuple[int, int], ...] = ()


class Codec:
    """Writes and reads news with the cluster's key. Times are in ns since 1970."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, _PURPOSE, "sha256")
        self._last: dict[str, int] = {}

    def encode(self, news: News, now: int) -> Iterator[bytes]:
        """The messages, one at least; no two of a node may have the same time, so each is a ns later."""
        name = news.node.encode()
        for number, at in enumerate(range(0, max(1, len(news.used)), MOST)):
            part = news.used[at : at + MOST]
            counts = min(news.live, _LARGEST), min(news.wanting, _LARGEST)
            body = _HEAD.pack(MAGIC, _VERSION, now + number, *counts, len(name)) + name
            body += b"".join(_KEY.pack(*item) for item in part)
            yield body + hmac.digest(self._key, body, "sha256")[:_MAC_BYTES]

    def decode(self, data: bytes, now: int) -> News:
        """Return what a message says. Raises BadNews."""
        if not _HEAD.size + _MAC_BYTES <= len(data) <= MAX_BYTES:
            raise BadNews("wrong length")
        body, tag = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not hmac.compare_digest(tag, hmac.digest(self._key, body, "sha256")[:_MAC_BYTES]):
            raise BadNews("bad signature")
        magic, version, time, live, wanting, length = _HEAD.unpack_from(body)
        if (magic, version) != (MAGIC, _VERSION):
            raise BadNews("unknown version")
        at = _HEAD.size + length
        if len(body) < at or (len(body) - at) % _KEY.size:
            raise BadNews("bad field")
        node = body[_HEAD.size : at].decode("utf-8", "replace")
        if abs(now - time) > FRESH * 1e9:
            raise BadNews("not fresh: clock skew between the gateways, or a replay")
        if time <= self._last.get(node, 0):
            raise BadNews("replayed, or overtaken by a later one")
        self._last[node] = time
        return News(node, live, wanting, tuple(_KEY.iter_unpack(body[at:])))
