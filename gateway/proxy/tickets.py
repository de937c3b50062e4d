"""Keys of TLS session tickets (RFC 5077, RFC 8446 section 4.6.1), derived from a secret for successive periods.

All holders of the secret derive the same keys without communication: the workers of a gateway, and the gateways of a
cluster. A key encrypts for one period, and also decrypts in the adjacent periods, so that neither clock differences nor
a ticket from the end of a period cost a full handshake. A stolen ticket is readable with a key that is two periods old
at most (RFC 9325 section 7.3 requires rotation). Pure but for `clock`.
"""

import time
from typing import Final

from gateway.secrets.keys import derive, fingerprint

PERIOD: Final = 12 * 3600
"""Seconds."""
KEY_BYTES: Final = 16 + 32 + 32
"""A key's name, AES-256, HMAC with SHA-256."""


def clock() -> float:
    """Seconds since 1970."""
    return time.time()


def period() -> int:
    """The number of the current period."""
    return int(clock()) // PERIOD


def identity(frontend: str, certificates: list[bytes]) -> bytes:
    """What a ticket is valid for: a frontend with these certificates. Another certificate invalidates its tickets."""
    return fingerprint(frontend.encode(), *certificates)


def key(secret: bytes, of: bytes, number: int) -> bytes:
    """The key of KEY_BYTES for period `number`, for tickets of the `identity` `of`."""
    return derive(secret, b"TLS ticket key\0" + of + number.to_bytes(8, "big", signed=True), KEY_BYTES)
