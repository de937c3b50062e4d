"""The load report of an agent to a gateway: one signed UDP datagram.

 version u8 · state u8 · incarnation u64 · sequence u64 · time u64 · server · backend · metrics · tag

Integers are in network byte order. A name is one length byte and ASCII; metrics are a count byte, then a name
and an IEEE 754 double each. The tag is HMAC-SHA256 (RFC 2104, FIPS 198-1) with the server's key. Every version
ends in the tag. Before it is verified, only the name of the server is read, to find its key; nothing else is used
before that, not even the version.
"""

import enum
import hashlib
import hmac
import re
import struct
from dataclasses import dataclass, field

VERSION = 1
MAX_BYTES = 1200  # fits one datagram on any path (the minimum IPv6 MTU is 1280 bytes, RFC 8200 section 5)
MAX_SHARE = 1e6  # of a metric's limit; more means a broken sensor
MAX_METRICS = 16
MAX_METRIC_NAME = 32
NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)

_HEAD = struct.Struct("!BBQQQ")
_DOUBLE = struct.Struct("!d")
_TAG_BYTES = hashlib.sha256().digest_size
CONTEXT = b"eddie load report\0"  # a tag made with the same key for another kind of message is not valid here
_U64_MAX = 2**64 - 1


class State(enum.Enum):
    """The admin state: take traffic, take no new sessions, or take no requests."""

    READY = 0
    DRAIN = 1
    MAINTENANCE = 2


class Reason(enum.Enum):
    """Why a datagram is not a valid report."""

    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    BAD_SIGNATURE = "bad signature"
    BAD_VERSION = "unknown version"
    BAD_FIELD = "bad field"


class BadReport(Exception):
    """The datagram is refused; `reason` says why."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Report:
    """One report.

    `incarnation` is the agent's start and `time` the moment of the report, both in nanoseconds since 1970;
    `sequence` counts the incarnation's reports. `metrics` maps a metric to its share of its limit: 1.0 is
    full, and more is possible. `backend` None means every backend that has a server of this name.
    Raises ValueError if a field is out of bounds.
    """

    server: str
    incarnation: int
    sequence: int
    time: int
    state: State = State.READY
    backend: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [self.server, *([] if self.backend is None else [self.backend]), *self.metrics]
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name[:80]!r} is not a name")
        if not all(0 <= number <= _U64_MAX for number in (self.incarnation, self.sequence, self.time)):
            raise ValueError("a number does not fit 64 bits")
        if len(self.metrics) > MAX_METRICS:
            raise ValueError(f"more than {MAX_METRICS} metrics")
        for name, share in self.metrics.items():
            if len(name) > MAX_METRIC_NAME:
                raise ValueError(f"{name} is longer than {MAX_METRIC_NAME} characters")
            if not 0.0 <= share <= MAX_SHARE:  # also refuses NaN
                raise ValueError(f"{name} is {share}")

    @property
    def score(self) -> float | None:
        """The load: the largest share. None if nothing could be measured, which must not look like an idle server."""
        return max(self.metrics.values(), default=None)


def encode(report: Report, key: bytes, context: bytes = CONTEXT) -> bytes:
    """Return the signed datagram, at most MAX_BYTES long (the bounds of Report's fields ensure that).

    `context` separates kinds of reports that are signed with the same key.
    """
    parts = [
        _HEAD.pack(VERSION, report.state.value, report.incarnation, report.sequence, report.time),
        pack_name(report.server),
        pack_name(report.backend or ""),
        bytes([len(report.metrics)]),
    ]
    for name, share in report.metrics.items():
        parts += pack_name(name), _DOUBLE.pack(share)
    body = b"".join(parts)
    return body + _tag(body, key, context)


def decode(data: bytes, key: bytes, context: bytes = CONTEXT) -> Report:
    """Return the report in a datagram from any sender. Raises BadReport; the signature is verified first.

    With an empty key no signature is verified.
    """
    if len(data) > MAX_BYTES:
        raise BadReport(Reason.TOO_LONG)
    if len(data) <= _TAG_BYTES:
        raise BadReport(Reason.TOO_SHORT)
    body = data[:-_TAG_BYTES]
    if not key or not hmac.compare_digest(_tag(body, key, context), data[-_TAG_BYTES:]):
        raise BadReport(Reason.BAD_SIGNATURE)
    if body[0] != VERSION:
        raise BadReport(Reason.BAD_VERSION, str(body[0]))
    try:
        return _parse(body)
    except (ValueError, IndexError, struct.error) as error:
        raise BadReport(Reason.BAD_FIELD, str(error)) from None


def claimed_server(data: bytes) -> str:
    """Return the server name in a datagram, "" if it has none. Nothing is verified."""
    try:
        name, _ = unpack_name(data[:-_TAG_BYTES], _HEAD.size)
    except (ValueError, IndexError):
        return ""
    return name if NAME.fullmatch(name) else ""


def parse_key(content: bytes) -> bytes:
    """Return the key in a key file's content, without its line end. Raises ValueError if it is too short."""
    key = content.rstrip(b"\r\n")
    if len(key) < 16:  # RFC 2104 section 3 recommends at least 32
        raise ValueError(f"a key needs at least 16 bytes, this one has {len(key)}")
    return key


def _tag(body: bytes, key: bytes, context: bytes) -> bytes:
    return hmac.digest(key, context + body, "sha256")


def pack_name(name: str) -> bytes:
    """A name as it stands in a datagram."""
    return bytes([len(name)]) + name.encode("ascii")


def _parse(body: bytes) -> Report:
    _, state, incarnation, sequence, time = _HEAD.unpack_from(body)
    server, at = unpack_name(body, _HEAD.size)
    backend, at = unpack_name(body, at)
    count, at = body[at], at + 1
    metrics = {}
    for _ in range(count):
        name, at = unpack_name(body, at)
        (metrics[name],) = _DOUBLE.unpack_from(body, at)
        at += _DOUBLE.size
    if at != len(body) or len(metrics) != count:
        raise ValueError("trailing bytes" if at != len(body) else "duplicate metric")
    return Report(server, incarnation, sequence, time, State(state), backend or None, metrics)


def unpack_name(body: bytes, at: int) -> tuple[str, int]:
    """The name at a place of a datagram, and the place behind it. Raises ValueError, IndexError."""
    end = at + 1 + body[at]
    if end > len(body):
        raise ValueError("truncated name")
    return body[at + 1 : end].decode("ascii"), end
