"""The C library's hashes of passwords, crypt_r(3): bcrypt, SHA-512, SHA-256, MD5 and DES.

The library is libxcrypt, which every Debian and Fedora has as part of its base system.
"""

import ctypes
from typing import Final

NAMES: Final = ("libcrypt.so.1", "libcrypt.so.2")
PACKAGE: Final = "libcrypt1"
_DATA: Final = 32768
"""Bytes of struct crypt_data (crypt.h)."""


def _opened() -> ctypes.CDLL | None:
    """The library. It is opened early: a confined process cannot open files."""
    for name in NAMES:
        try:
            library = ctypes.CDLL(name)
            library.crypt_r.restype = ctypes.c_char_p
            library.crypt_r.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
        return library
    return None


_LIBRARY: Final = _opened()


def is_there() -> bool:
    """Whether this machine has the library."""
    return _LIBRARY is not None


def crypt(password: bytes, setting: bytes) -> bytes:
    """The hash of a password without NUL, in the form that the hash `setting` has. Other threads run meanwhile.

    Raises ValueError for a setting that the library does not know, and for passwords that are longer than it takes.
    """
    if _LIBRARY is None:
        raise ValueError(f"{NAMES[0]} is not installed: apt install {PACKAGE}")
    made: bytes | None = _LIBRARY.crypt_r(password, setting, ctypes.create_string_buffer(_DATA))
    if made is None or made.startswith(b"*"):
        raise ValueError("the library does not know this kind of hash")
    return made
