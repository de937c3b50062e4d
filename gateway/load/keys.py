"""The keys of load reports: one for each server, so that a server can speak for itself alone."""

import hmac
from collections.abc import Mapping
from typing import Final

_INFO: Final = b"eddie load report key 1\0"


def derive(secret: bytes, server: str) -> bytes:
    """Return the key of a server, as its key file has it: 64 hexadecimal digits.

    HKDF-SHA256 (RFC 5869 sections 2.2 and 2.3) of the secret, without salt, for the server's name: who has the key
    of one server can compute neither the secret nor the key of another.
    """
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, _INFO + server.encode() + b"\x01", "sha256").hex().encode()


class ReportKeys:
    """`own`: keys by the names of servers; those of all others are derived from `secret`, if there is one."""

    def __init__(self, own: Mapping[str, bytes], secret: bytes = b"") -> None:
        self._own = dict(own)
        self._secret = secret
        self._derived: dict[str, bytes] = {}

    def of(self, server: str) -> bytes | None:
        """Return the key that is this server's alone, or None. The caller asks only for servers that there are."""
        key = self._own.get(server) or self._derived.get(server)
        if key is None and self._secret:
            key = self._derived[server] = derive(self._secret, server)
        return key
