"""Keys of TLS session tickets (RFC 5077, RFC 8446 section 4.6.1), derived from a secret for one period after the other.

All who have the secret come to the same keys without talking: the workers of a gateway, and the gateways of a cluster.
A key encrypts for one period, and decrypts in the periods beside it, so that neither clocks that differ nor a ticket
from the end of a period cost a full handshake. A ticket that is stolen can be read with a key that is two periods old
at most (RFC 9325 section 7.3 asks for rotation). Pure but for `clock`.
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
    """The number of the present period."""
    return int(clock()) // PERIOD


def identity(frontend: str, certificates: list[bytes]) -> bytes:
    """What a ticket is for: a frontend with these certificates. With another certificate its tickets are no more."""
    return fingerprint(frontend.encode(), *certificates)


def key(secret: bytes, of: bytes, number: int) -> bytes:
    """The KEY_BYTES for period `number`, of tickets for the `identity` that is `of`."""
    return derive(secret, b"TLS ticket key\0" + of + number.to_bytes(8, "big", signed=True), KEY_BYTES)
