"""Compares a password with a hash of gateway/config/htpasswd.py. Pure, and slow on purpose: run it in a thread."""

import base64
import hashlib
import hmac
from typing import Final

from gateway.rules.gil import yield_gil
from gateway.system import libcrypt

LONGEST: Final = 512
"""Bytes of a password: libcrypt takes no longer ones (crypt(3), CRYPT_MAX_PASSPHRASE_SIZE)."""

_DIGITS: Final = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_APR1: Final = b"$apr1$"
_APR1_ROUNDS: Final = 1000
_APR1_ORDER: Final = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))
"""Bytes of the digest that each four characters of the hash are made of."""
_BREATH: Final = 50
"""Rounds after which other threads may run."""


def fits(password: bytes, hashed: str) -> bool:
    """Whether the hash is of this password; compared in constant time."""
    if len(password) > LONGEST or b"\0" in password:
        return False
    wanted = hashed.encode()
    if hashed.startswith("{SHA}"):
        made = b"{SHA}" + base64.b64encode(hashlib.sha1(password, usedforsecurity=False).digest())
    elif hashed.startswith("{SSHA}"):
        salt = base64.b64decode(hashed[6:])[20:]
        made = b"{SSHA}" + base64.b64encode(hashlib.sha1(password + salt, usedforsecurity=False).digest() + salt)
    elif hashed.startswith("$apr1$"):
        made = apr1(password, wanted.split(b"$")[2])
    else:
        try:
            made = libcrypt.crypt(password, wanted)
        except ValueError:
            return False
    return hmac.compare_digest(made, wanted)


def apr1(password: bytes, salt: bytes) -> bytes:
    """The hash that `htpasswd -m` makes: MD5 in 1000 rounds (apr_md5_encode in APR-util's apr_md5.c)."""

    def md5(*parts: bytes) -> bytes:
        return hashlib.md5(b"".join(parts), usedforsecurity=False).digest()

    inner = md5(password, salt, password)
    length = len(password)
    first = (inner * (length // 16 + 1))[:length]
    bits = b"".join(b"\0" if length >> i & 1 else password[:1] for i in range(length.bit_length()))
    final = md5(password, _APR1, salt, first, bits)
    for i in range(_APR1_ROUNDS):
        if i % _BREATH == 0:
            yield_gil()
        final = md5(
            password if i & 1 else final,
            salt if i % 3 else b"",
            password if i % 7 else b"",
            final if i & 1 else password,
        )
    text = bytearray()
    for a, b, c in _APR1_ORDER:
        value = final[a] << 16 | final[b] << 8 | final[c]
        text += bytes(_DIGITS[value >> 6 * i & 63] for i in range(4))
    text += bytes((_DIGITS[final[11] & 63], _DIGITS[final[11] >> 6]))
    return _APR1 + salt + b"$" + bytes(text)
