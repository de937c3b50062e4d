"""What `loadagent test` asks a gateway, and the gateway's answer: two signed datagrams.

 trial:   129 u8 · nonce u64 · time u64 · server · backend · zeros up to 64 bytes · tag
 receipt: 129 u8 · verdict u8 · nonce u64 · time u64 · age u64 · tag

Integers, names and tags are as in a load report (report.py), the tags over other contexts: neither is a report, and a
trial changes nothing at the gateway. `nonce` is random and returns in the receipt; `time` is the sender's clock in
nanoseconds since 1970; `age` is how long ago the gateway heard the server's last report, in milliseconds. A refusal by
a gateway that has no common key with the sender is a receipt without time, age and tag: such an answer proves nothing.
A receipt is never longer than a trial, so a forged source address amplifies nothing.
"""

import enum
import hmac
import struct
from dataclasses import dataclass
from typing import Final

from loadagent.report import NAME, pack_name, unpack_name

TRIAL: Final = 129
"""The first byte; that of a report is its version."""
BODY: Final = 64
"""Least bytes of a trial without its tag."""
LONGEST: Final = 256
NEVER: Final = 2**64 - 1
_CONTEXT_TRIAL: Final = b"eddie load report trial\0"
_CONTEXT_RECEIPT: Final = b"eddie load report receipt\0"
_TRIAL: Final = struct.Struct("!BQQ")
_REFUSAL: Final = struct.Struct("!BBQ")
_RECEIPT: Final = struct.Struct("!BBQQQ")
_TAG_BYTES: Final = 32


class Opinion(enum.Enum):
    """What the gateway would do with a report of the sender."""

    ACCEPTED = 0
    WRONG_KEY = 1
    UNKNOWN_SERVER = 2
    CLOCK = 3
    """The clocks of the two differ too much."""
    ELSEWHERE = 4
    """Another address reports for this server with the shared key."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One question; see the module."""

    nonce: int
    time: int
    server: str
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """One answer; see the module. `time` and `age` are None if it is not signed, `age` also if nothing was heard."""

    opinion: Opinion
    nonce: int
    time: int | None = None
    age: int | None = None


def encode_trial(trial: Trial, key: bytes) -> bytes:
    """Return the signed datagram."""
    body = _TRIAL.pack(TRIAL, trial.nonce, trial.time) + pack_name(trial.server) + pack_name(trial.backend or "")
    body = body.ljust(BODY, b"\0")
    return body + _tag(body, key, _CONTEXT_TRIAL)


def read_trial(data: bytes) -> Trial | None:
    """Return what is in a datagram from any sender, None if it is no trial. Its signature is not verified."""
    if not BODY + _TAG_BYTES <= len(data) <= LONGEST or data[0] != TRIAL:
        return None
    body = data[:-_TAG_BYTES]
    try:
        _, nonce, time = _TRIAL.unpack_from(body)
        server, at = unpack_name(body, _TRIAL.size)
        backend, at = unpack_name(body, at)
    except (ValueError, IndexError, struct.error):
        return None
    if not NAME.fullmatch(server) or (backend and not NAME.fullmatch(backend)) or any(body[at:]):
        return None
    return Trial(nonce, time, server, backend or None)


def is_signed(data: bytes, key: bytes) -> bool:
    """Whether a trial is signed with this key, compared in constant time."""
    return hmac.compare_digest(_tag(data[:-_TAG_BYTES], key, _CONTEXT_TRIAL), data[-_TAG_BYTES:])


def encode_receipt(receipt: Receipt, key: bytes) -> bytes:
    """Return the datagram; with an empty key, without what only a signature makes worth believing."""
    if not key:
        return _REFUSAL.pack(TRIAL, receipt.opinion.value, receipt.nonce)
    age = NEVER if receipt.age is None else receipt.age
    body = _RECEIPT.pack(TRIAL, receipt.opinion.value, receipt.nonce, receipt.time, age)
    return body + _tag(body, key, _CONTEXT_RECEIPT)


def decode_receipt(data: bytes, key: bytes, nonce: int) -> Receipt | None:
    """Return the answer to the trial with this nonce, None for any other datagram and for a forged one."""
    try:
        if len(data) == _REFUSAL.size:
            version, opinion, echo = _REFUSAL.unpack(data)
            found = Receipt(Opinion(opinion), echo)
            believable = found.opinion in {Opinion.WRONG_KEY, Opinion.UNKNOWN_SERVER}
        else:
            body = data[:-_TAG_BYTES]
            believable = hmac.compare_digest(_tag(body, key, _CONTEXT_RECEIPT), data[-_TAG_BYTES:])
            version, opinion, echo, time, age = _RECEIPT.unpack(body)
            found = Receipt(Opinion(opinion), echo, time, None if age == NEVER else age)
    except (ValueError, struct.error):
        return None
    return found if believable and version == TRIAL and echo == nonce else None


def _tag(body: bytes, key: bytes, context: bytes) -> bytes:
    return hmac.digest(key, context + body, "sha256")
