"""Keys derived from a secret, each for one purpose, and fingerprints of contents.

Who learns a derived key knows neither the secret nor the other keys.
"""

from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derive(secret: bytes, purpose: bytes, length: int = 32) -> bytes:
    """`length` bytes by HKDF with SHA-256 (RFC 5869). The secret has 16 bytes of randomness at least."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=b"eddie " + purpose).derive(secret)


def fingerprint(*contents: bytes) -> bytes:
    """The SHA-256 of several contents in order, in which none can be mistaken for a part of another."""
    return sha256(b"".join(sha256(content).digest() for content in contents)).digest()
