"""The handshake of WebSockets in HTTP/1.1 (RFC 6455): the proof that a server has understood the client's key."""

from base64 import b64encode
from hashlib import sha1

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_of(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that belongs to a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    return b64encode(sha1(key + _GUID).digest())  # noqa: S324 - the protocol's, and no secret
