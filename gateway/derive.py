"""Keys for one purpose each, made of a secret: who learns one of them knows neither the secret nor the others."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derive(secret: bytes, purpose: bytes, length: int = 32) -> bytes:
    """`length` bytes by HKDF with SHA-256 (RFC 5869). The secret has 16 bytes of randomness at least."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=b"eddie " + purpose).derive(secret)
