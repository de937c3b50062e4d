"""The bytes of records behind a question, as they are put into answers. Pure; the data of records is dnspython's."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import dns.name
import dns.rdata

from gateway.config.dns import Https
from gateway.dns.kept import Answer

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
DNSKEY: Final = 48
NSEC: Final = 47
RRSIG: Final = 46
AAAA: Final = 28
HTTPS: Final = 65
ANY: Final = 255
NOERROR: Final = 0
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
REFUSED: Final = 5

RR: Final = struct.Struct("!HHIH")
_IN: Final = 1
_QUESTION_TAIL: Final = 4
"""Bytes of type and class, behind the name of a question."""
HINFO: Final = 13
MINIMAL: Final = b"\x07RFC8482\x00"
"""Data of the HINFO record that answers ANY (RFC 8482 section 4.2)."""


@dataclass(frozen=True, slots=True)
class RecordSet:
    """Records of one type of a name: their data on the wire."""

    type: int
    ttl: int
    data: tuple[bytes, ...]


def labels_of(name: bytes) -> int:
    """The number of labels that a signature counts: without the root, and without a first label *."""
    at = count = 0
    while name[at]:
        count += 1
        at += 1 + name[at]
    return count - name.startswith(b"\1*")


def wire_name(name: str) -> bytes:
    """A name on the wire, in lower case, without compression."""
    return _wire(dns.name.from_text(name).canonicalize())


@dataclass(slots=True)
class Writer:
    """Collects the records of an answer."""

    made: bytearray = field(default_factory=bytearray)
    patches: list[tuple[int, int]] = field(default_factory=list)

    def add(self, records: RecordSet, owner: bytes | int | None = None) -> int:
        """Add records; returns how many.

        `owner` is a name, or where one is: as a distance from the end of the question's name; None: it is that name.
        """
        for data in records.data:
            if isinstance(owner, int):
                self.patches.append((len(self.made), owner))
            self.made += owner if isinstance(owner, bytes) else b"\xc0\x0c"
            self.made += RR.pack(records.type, _IN, records.ttl, len(data)) + data
        return len(records.data)

    @property
    def last_data(self) -> int:
        """Where data that is added next will be, with a pointer as its owner, as a distance."""
        return _QUESTION_TAIL + len(self.made) + 2 + RR.size

    def answer(self, code: int, answers: int, authority: int, number: int, *, compact: bool = False) -> Answer:
        """All that was added."""
        return Answer(code, bytes(self.made), answers, authority, self.patches, compact=compact, number=number)


def soa(primary: str, mail: str, numbers: tuple[int, int, int, int, int]) -> bytes:
    """The data of a SOA record; `numbers`: serial, refresh, retry, expire, minimum."""
    local, _, domain = mail.partition("@")
    responsible = dns.name.Name([local.encode(), *dns.name.from_text(domain).labels])
    text = " ".join(map(str, (dns.name.from_text(primary), responsible, *numbers)))
    return _wire(dns.rdata.from_text("IN", "SOA", text))


def name_data(name: str) -> bytes:
    """The data of an NS or CNAME record."""
    return _wire(dns.name.from_text(name))


def https(model: Https, addresses: Iterable[IPv4Address | IPv6Address]) -> bytes:
    """The data of an HTTPS record with addresses as hints (RFC 9460 section 7.3)."""
    words = ["1 ."]
    if model.alpn:
        words.append("alpn=" + ",".join(model.alpn))
    if model.port is not None:
        words.append(f"port={model.port}")
    for key, version in (("ipv4hint", 4), ("ipv6hint", 6)):
        hints = [str(address) for address in addresses if address.version == version]
        if hints:
            words.append(f"{key}={','.join(hints)}")
    return _wire(dns.rdata.from_text("IN", "HTTPS", " ".join(words)))


def record_data(rdata: dns.rdata.Rdata) -> bytes:
    """The data of a record of the site file."""
    return _wire(rdata)


def _wire(thing: dns.rdata.Rdata | dns.name.Name) -> bytes:
    made = thing.to_wire()
    if made is None:
        raise ValueError("nothing to write")
    return made
