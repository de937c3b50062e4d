"""Files of users and hashes of their passwords, as Apache's htpasswd writes them: a line `user:hash` each."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.system import libcrypt

MAKE: Final = "make one by `htpasswd -B FILE USER`"
LONGEST_USER: Final = 255
HIGHEST_COST: Final = 14
"""Of bcrypt: a check takes a second."""
MOST_ROUNDS: Final = 1_000_000
"""Of SHA-512 and SHA-256: the same."""
SHOWN: Final = 20
"""Wrong lines in a message."""

_BCRYPT: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_SHA: Final = re.compile(r"\{(SSHA|SHA)\}([A-Za-z0-9+/]+=*)")
_APR1: Final = re.compile(r"\$apr1\$([^$:]{1,8})\$[./A-Za-z0-9]{22}")
_CRYPT: Final = re.compile(
    r"\$1\$[^$:]{0,8}\$[./A-Za-z0-9]{22}"
    r"|\$(?:5|6)\$(?:rounds=([0-9]{1,9})\$)?[^$:]{0,16}\$(?:[./A-Za-z0-9]{86}|[./A-Za-z0-9]{43})"
)
_DES: Final = re.compile(r"[./A-Za-z0-9]{13}")
_SHA_BYTES: Final = 20


@dataclass(frozen=True, slots=True)
class Users:
    """Hashes by user, each of a kind that gateway/rules/passwords.py checks; `warnings` are (line, text)."""

    hashes: Mapping[bytes, str]
    warnings: tuple[tuple[int, str], ...] = ()


class BadUsers(ValueError):
    """What is wrong with a file: (line, text) of each fault."""

    def __init__(self, faults: tuple[tuple[int, str], ...]) -> None:
        super().__init__("; ".join(f"line {line}: {text}" for line, text in faults))
        self.faults = faults


def parse(content: bytes) -> Users:
    """Read a file. Empty lines and those that begin with # are skipped. Raises BadUsers."""
    hashes: dict[bytes, str] = {}
    faults: list[tuple[int, str]] = []
    warnings: list[tuple[int, str]] = []
    for number, raw in enumerate(content.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith(b"#"):
            continue
        user, colon, rest = line.partition(b":")
        # Hashes have no colon: what follows one is a comment.
        hashed = rest.partition(b":")[0].decode("ascii", "replace")
        if not colon or not user:
            fault = f"expected user:hash; {MAKE}"
        elif len(user) > LONGEST_USER:
            fault = f"a name of more than {LONGEST_USER} bytes"
        elif user in hashes:
            fault = f"{user.decode('utf-8', 'replace')} is given twice"
        else:
            fault = _fault(hashed)
            hashes[user] = hashed
            if not fault and _DES.fullmatch(hashed):
                warnings.append((number, f"only the first 8 characters of this password count; {MAKE}"))
        if fault:
            faults.append((number, fault))
    if not hashes and not faults:
        faults.append((1, f"there are no users; {MAKE}"))
    if faults:
        raise BadUsers(tuple(faults[:SHOWN]))
    return Users(hashes, tuple(warnings[:SHOWN]))


def _fault(hashed: str) -> str:
    """What is wrong with a hash; empty: nothing."""
    if match := _SHA.fullmatch(hashed):
        return "" if _sha_fits(*match.groups()) else f"not a SHA-1 hash; {MAKE}"
    if _APR1.fullmatch(hashed):
        return ""
    bcrypt, crypt = _BCRYPT.fullmatch(hashed), _CRYPT.fullmatch(hashed)
    if not (bcrypt or crypt or _DES.fullmatch(hashed)):
        return f"not a hash of bcrypt, SHA, MD5 (apr1) or crypt; passwords as they are have no place here: {MAKE}"
    if bcrypt and not 4 <= int(bcrypt[1]) <= HIGHEST_COST:
        return f"a check of bcrypt with cost {bcrypt[1]} takes too long: at most {HIGHEST_COST}"
    if crypt and int(crypt[1] or 0) > MOST_ROUNDS:
        return f"a check with {crypt[1]} rounds takes too long: at most {MOST_ROUNDS}"
    return _needs_library()


def _sha_fits(kind: str, encoded: str) -> bool:
    try:
        size = len(base64.b64decode(encoded, validate=True))
    except binascii.Error:
        return False
    return size == _SHA_BYTES if kind == "SHA" else _SHA_BYTES < size <= _SHA_BYTES + 64


def _needs_library() -> str:
    if libcrypt.is_there():
        return ""
    return f"this kind of hash needs {libcrypt.NAMES[0]}: apt install {libcrypt.PACKAGE}"
