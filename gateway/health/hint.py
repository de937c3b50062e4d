"""The hint of a gateway to the others that a check contradicts a server's state: they check it at once. Pure.

    4 magic "GWCH" · 1 version · 8 time, ns since 1970 · backend · server · address · 16 HMAC-SHA256, truncated

A name is a length byte and as many bytes; integers are big-endian. The tag covers all preceding bytes (RFC 2104
section 5), with a key derived from the cluster's. A hint is never trusted; it only triggers a check. A hint replayed
while it is fresh is refused if it is still remembered; otherwise it costs one check at most.
"""

import hmac
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 1024
FRESH: Final = 30.0
"""Largest difference in seconds between the clocks of two gateways."""
REMEMBERED: Final = 4096
"""Number of hints remembered to detect replays."""
_HEAD: Final = struct.Struct("!4sBQ")
_MAGIC: Final = b"GWCH"
_VERSION: Final = 1
_MAC_BYTES: Final = 16
_PURPOSE: Final = b"gateway check hint 1"


class BadHint(ValueError):
    """Bytes that are not a hint of this cluster; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A server to check: its names, and its address as in the site file."""

    backend: str
    server: str
    address: str


class Codec:
    """Writes and reads hints with the cluster's key. Times are in ns since 1970."""

    def __init__(self, key: bytes) -> None:
        # A derived key: the same file authenticates other messages, and none can be mistaken for another.
        self._key = hmac.digest(key, _PURPOSE, "sha256")

    def encode(self, hint: Hint, now: int) -> bytes:
        """Return the message. Raises ValueError if a name is too long."""
        body = _HEAD.pack(_MAGIC, _VERSION, now)
        for text in (hint.backend, hint.server, hint.address):
            body += bytes([len(text.encode())]) + text.encode()
        return body + hmac.digest(self._key, body, "sha256")[:_MAC_BYTES]

    def decode(self, data: bytes, now: int) -> Hint:
        """Return the hint in a message. Raises BadHint."""
        if len(data) > MAX_BYTES:
            raise BadHint("too long")
        body, tag = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not hmac.compare_digest(tag, hmac.digest(self._key, body, "sha256")[:_MAC_BYTES]):
            raise BadHint("bad signature")
        if len(body) < _HEAD.size or body[: len(_MAGIC)] != _MAGIC or body[len(_MAGIC)] != _VERSION:
            raise BadHint("unknown version")
        if abs(now - _HEAD.unpack_from(body)[2]) > FRESH * 1e9:
            raise BadHint("not fresh: clock skew between the gateways, or a replay")
        at, names = _HEAD.size, []
        while at < len(body):
            end = at + 1 + body[at]
            names.append(body[at + 1 : end].decode("utf-8", "replace"))
            at = end
        if len(names) != len(Hint.__slots__) or at != len(body):
            raise BadHint("bad field")
        return Hint(*names)


class Recent:
    """The newest REMEMBERED hints that arrived while fresh. Times in monotonic seconds."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def take(self, data: bytes, now: float) -> None:
        """Remember an authentic message. Raises BadHint if it is a replay."""
        tag = data[-_MAC_BYTES:]
        while self._seen and now - next(iter(self._seen.values())) > 2 * FRESH:
            self._seen.popitem(last=False)
        if tag in self._seen:
            raise BadHint("replayed")
        if len(self._seen) >= REMEMBERED:
            self._seen.popitem(last=False)
        self._seen[tag] = now
