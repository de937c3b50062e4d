"""Private keys of certificates, read by cryptography: the usual kinds in a fraction of the time that OpenSSL takes."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


def load(pem: bytes) -> PrivateKeyTypes | None:
    """Return the key in a PEM file; None: cryptography cannot read it. Raises ValueError if it is damaged.

    Cryptography's own check of an RSA key looks whether its factors are primes, which takes 50 ms for 2048 bits. They
    are if their product is the certificate's modulus, which is compared; so it is enough that the numbers fit together.
    """
    start = pem[max(pem.find(b"-----BEGIN "), 0) :]
    try:
        key = serialization.load_pem_private_key(start, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if isinstance(key, rsa.RSAPrivateKey) and not _fit_together(key.private_numbers()):
        raise ValueError("the key is damaged: its numbers do not fit together")
    return key


def _fit_together(key: rsa.RSAPrivateNumbers) -> bool:
    """Whether the numbers satisfy RFC 8017 section 3.2."""
    p, q, d, e = key.p, key.q, key.d, key.public_numbers.e
    return (
        min(p, q) > 1
        and p * q == key.public_numbers.n
        and e * d % (p - 1) == 1
        and e * d % (q - 1) == 1
        and d % (p - 1) == key.dmp1
        and d % (q - 1) == key.dmq1
        and q * key.iqmp % p == 1
    )
