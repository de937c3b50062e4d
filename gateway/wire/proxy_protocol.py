"""The PROXY protocol, versions 1 and 2: what a proxy says to a server about the connection it passes on.

Source: "The PROXY protocol", versions 1 & 2, sections 2.1 and 2.2 (the document that came with the protocol).
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Final

from gateway.wire.forwarded import address

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
MAX_V1: Final = 107
"""Bytes of the longest version 1 line, CRLF included."""
MAX_V2: Final = 16 + 1024
"""Bytes accepted of version 2: its fixed part, and enough for addresses and common extensions."""

_V1: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [\x21-\x7e ]*)?|(?P<family>TCP4|TCP6) (?P<source>[0-9a-fA-F:.]+) (?P<target>[0-9a-fA-F:.]+) "
    rb"(?P<port>0|[1-9][0-9]{0,4}) (?:0|[1-9][0-9]{0,4}))\r\n"
)
_FAMILIES: Final = {0x1: (12, 4, IPv4Address), 0x2: (36, 16, IPv6Address)}


class BadHeader(Exception):
    """What came is no PROXY header."""


@dataclass(frozen=True, slots=True)
class Header:
    """`length` bytes on the wire; `source` and `port` are the client's, None and 0 if the proxy gives none.

    An IPv4 address in the form of IPv6 counts as IPv4 (RFC 4291 section 2.5.5.2).
    """

    length: int
    source: str | None
    port: int = 0


def parse(data: bytes) -> Header | None:
    """Read the header at the start of `data`; None while it is incomplete. Raises BadHeader."""
    if data[:1] == b"P":
        return _parse_v1(data)
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _parse_v2(data) if len(data) > len(SIGNATURE) else None
    raise BadHeader("neither version 1 nor version 2")


def _parse_v1(data: bytes) -> Header | None:
    line, found, _ = data[:MAX_V1].partition(b"\n")
    if not found:
        if len(data) >= MAX_V1:
            raise BadHeader("a line too long for version 1")
        return None
    match = _V1.fullmatch(line + b"\n")
    if match is None:
        raise BadHeader("a malformed line of version 1")
    length = len(line) + 1
    if match["family"] is None:
        return Header(length, None)
    family = IPv4Address if match["family"] == b"TCP4" else IPv6Address
    try:
        source = family(match["source"].decode())
        family(match["target"].decode())
    except AddressValueError:
        raise BadHeader("invalid address in a header of version 1") from None
    if int(match["port"]) > 65535:
        raise BadHeader("invalid port in a header of version 1")
    return Header(length, address(str(source)), int(match["port"]))


def _parse_v2(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    version, command = data[12] >> 4, data[12] & 15
    if version != 2 or command > 1:
        raise BadHeader("neither LOCAL nor PROXY of version 2")
    length = 16 + int.from_bytes(data[14:16], "big")
    if length > MAX_V2:
        raise BadHeader("extensions too long")
    if len(data) < length:
        return None
    if command == 0:
        return Header(length, None)
    known = _FAMILIES.get(data[13] >> 4)
    if known is None or data[13] & 15 != 1:
        return Header(length, None)  # a family that says nothing to HTTP
    size, width, family = known
    if length - 16 < size:
        raise BadHeader("addresses cut short")
    port = int.from_bytes(data[16 + 2 * width : 18 + 2 * width], "big")
    return Header(length, address(str(family(data[16 : 16 + width]))), port)


def header(version: int, source: tuple[str, int], target: tuple[str, int]) -> bytes:
    """The header for a server: where the client is (`source`) and where it has connected to.

    An address may be empty: then the header says only that there is a client. If one address is IPv4 and the other
    IPv6, the former is written as an IPv6 address (RFC 4291 section 2.5.5.2).
    """
    if not source[0] or not target[0]:
        return b"PROXY UNKNOWN\r\n" if version == 1 else _v2(1, 0, b"")
    hosts = [ip_address(source[0]), ip_address(target[0])]
    if any(host.version == 6 for host in hosts):
        hosts = [host if host.version == 6 else IPv6Address(f"::ffff:{host}") for host in hosts]
    ports = (source[1], target[1])
    four = hosts[0].version == 4
    if version == 1:
        return f"PROXY {'TCP4' if four else 'TCP6'} {hosts[0]} {hosts[1]} {ports[0]} {ports[1]}\r\n".encode()
    addresses = b"".join(host.packed for host in hosts) + b"".join(port.to_bytes(2, "big") for port in ports)
    return _v2(1, 0x11 if four else 0x21, addresses)


def local(version: int) -> bytes:
    """The header of a connection without a client, such as a health check's."""
    return b"PROXY UNKNOWN\r\n" if version == 1 else _v2(0, 0, b"")


def _v2(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE + bytes((0x20 | command, family)) + len(addresses).to_bytes(2, "big") + addresses
