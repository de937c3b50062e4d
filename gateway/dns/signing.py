"""Signatures of a zone's records, made when they are first asked for and kept (RFC 4034, ECDSA P-256: RFC 6605).

A signature is of a set of records, not of their order, so a balanced name has as many as it has sets of addresses. What
does not exist is denied by one NSEC record of the name asked for (compact denial, RFC 9824), which tells nothing about
other names. Signatures for names that clients make up are limited by rate: each costs processor time.
"""

import base64
import random
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import dns.dnssec
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.config.dns import parse_signing_key
from gateway.dns.records import RR, RecordSet, labels_of, wire_name

VALID: Final = 14 * 86400
"""Seconds for which a signature is valid: more than twice the longest TTL."""
EARLY: Final = 3600
"""Seconds before now at which it begins to be valid: clocks differ."""
REFRESH: Final = VALID // 2 - 86400
"""Age in seconds at which it is made anew; until it ends, answers that have it can be kept for their TTL."""
JITTER: Final = 12 * 3600
"""Seconds by which these times differ, so that not all signatures are made anew at once."""
KEPT: Final = 65_536
"""Signatures of names that exist."""
PASSING: Final = 4_096
"""Signatures of names that clients have made up."""
MADE_UP: Final = 1000
"""Such signatures that are made in a second."""
ALGORITHM: Final = 13
_KSK: Final = 257
"""Flags of a DNSKEY that signs all, with SEP."""
_HEAD: Final = struct.Struct("!HBBIIIH")
_NAMES: Final = frozenset({2, 5, 6, 12, 15, 33})
"""Types whose data has names, which are in lower case when they are signed (RFC 6840 section 5.1)."""
RRSIG: Final = 46
NSEC: Final = 47
DNSKEY: Final = 48
NXNAME: Final = 128


class TooMany(Exception):
    """There are too many names that do not exist to sign that they do not."""


@dataclass(slots=True)
class _Signature:
    data: bytes
    refresh: float


class Signer:
    """The key of a zone and what it has signed. `name`: the zone on the wire, in lower case.

    Raises ValueError for a key that is none.
    """

    def __init__(
        self, name: bytes, content: bytes, clock: Callable[[], float] = time.time, seed: int | None = None
    ) -> None:
        self.name = name
        self.content = content
        self.made = 0
        self.refused = 0
        self._key = parse_signing_key(content)
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - spreads work over time
        public = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        self.dnskey = struct.pack("!HBB", _KSK, 3, ALGORITHM) + public
        self.tag = dns.dnssec.key_id(dns.rdata.from_wire(1, DNSKEY, self.dnskey, 0, len(self.dnskey)))  # type: ignore[arg-type]
        self._kept: OrderedDict[tuple[bytes, RecordSet], _Signature] = OrderedDict()
        self._passing: OrderedDict[tuple[bytes, RecordSet], _Signature] = OrderedDict()
        self._budget = float(MADE_UP)
        self._filled = clock()

    def sign(self, owner: bytes, found: RecordSet, *, exists: bool = True) -> RecordSet:
        """The RRSIG record of a set; `owner` is in lower case. Raises TooMany for names that do not exist."""
        now = self._clock()
        key = owner, RecordSet(found.type, found.ttl, tuple(sorted(found.data)))
        signatures, most = (self._kept, KEPT) if exists else (self._passing, PASSING)
        kept = signatures.get(key)
        if kept is None or kept.refresh <= now:
            if not exists:
                self._spend(now)
            kept = signatures[key] = self._make(owner, found, now)
            while len(signatures) > most:
                signatures.popitem(last=False)
        return RecordSet(RRSIG, found.ttl, (kept.data,))

    def renew(self, seconds: float) -> None:
        """Make those signatures anew that will be due within some seconds; in a thread, since it takes a while."""
        now = self._clock()
        for key, kept in list(self._kept.items()):
            if kept.refresh <= now + seconds:
                self._kept[key] = self._make(*key, now)

    def _spend(self, now: float) -> None:
        self._budget = min(float(MADE_UP), self._budget + (now - self._filled) * MADE_UP)
        self._filled = now
        if self._budget < 1.0:
            self.refused += 1
            raise TooMany
        self._budget -= 1.0

    def _make(self, owner: bytes, found: RecordSet, now: float) -> _Signature:
        jitter = self._random.uniform(0, JITTER)
        begin, end = int(now - EARLY - jitter / JITTER * EARLY), int(now + VALID - jitter)
        head = _HEAD.pack(found.type, ALGORITHM, labels_of(owner), found.ttl, end, begin, self.tag) + self.name
        text = head + b"".join(
            owner + RR.pack(found.type, 1, found.ttl, len(data)) + data for data in sorted(set(_canonical(found)))
        )
        r, s = decode_dss_signature(self._key.sign(text, ec.ECDSA(hashes.SHA256())))
        self.made += 1
        return _Signature(head + r.to_bytes(32, "big") + s.to_bytes(32, "big"), now + REFRESH - jitter)


def _canonical(found: RecordSet) -> Iterable[bytes]:
    """The data of records in canonical form (RFC 4034 section 6.2)."""
    if found.type not in _NAMES:
        return found.data
    kind = dns.rdatatype.RdataType.make(found.type)
    return [dns.rdata.from_wire(dns.rdataclass.IN, kind, data, 0, len(data)).to_digestable() for data in found.data]


def denial(name: bytes, types: Iterable[int], ttl: int) -> RecordSet:
    """The NSEC record that says which types a name has, and that no name follows but what could be below it.

    Raises ValueError for a name after which there is none.
    """
    return RecordSet(NSEC, ttl, (successor(name) + _bitmap({*types, RRSIG, NSEC}),))


def successor(name: bytes) -> bytes:
    """The next possible name in canonical order; nothing that can exist is between (RFC 4471 section 3.1.2)."""
    if len(name) + 2 <= 255:
        return b"\1\0" + name
    # As long as a name can be, so there are none below it: the next one is that with a larger first label.
    label, rest = bytearray(name[1 : 1 + name[0]]), name[1 + name[0] :]
    while label and label[-1] == 255:
        label.pop()
    if not label:
        raise ValueError("no name follows")
    label[-1] += 1
    if label[-1] == ord("A"):
        label[-1] = ord("Z") + 1
    return bytes([len(label)]) + bytes(label) + rest


def _bitmap(types: Iterable[int]) -> bytes:
    """Types as NSEC has them (RFC 4034 section 4.1.2)."""
    windows: dict[int, bytearray] = {}
    for kind in types:
        window = windows.setdefault(kind >> 8, bytearray(32))
        window[(kind & 255) >> 3] |= 0x80 >> (kind & 7)
    found = bytearray()
    for number, window in sorted(windows.items()):
        used = bytes(window).rstrip(b"\0")
        found += bytes([number, len(used)]) + used
    return bytes(found)


def trust_lines(zone: str, content: bytes) -> list[str]:
    """The DS and DNSKEY records of a zone by its key, as lines of a zone file. Raises ValueError."""
    signer = Signer(wire_name(zone), content)
    key = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.DNSKEY, signer.dnskey, 0, len(signer.dnskey))
    ds = dns.dnssec.make_ds(dns.name.from_text(zone), key, "SHA256")
    public = base64.b64encode(signer.dnskey[4:]).decode()
    return [f"{zone}. IN DS {ds}", f"{zone}. IN DNSKEY {_KSK} 3 {ALGORITHM} {public}"]
