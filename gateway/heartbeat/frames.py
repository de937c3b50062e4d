"""Frames that announce the owner of an address, and probe for another owner. Pure.

ARP: RFC 826, announcements and probes RFC 5227 sections 2.1.1 and 3. IPv6 neighbour discovery: RFC 4861 sections 4.3,
4.4 and 7.2.6 (unsolicited advertisements).
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

BROADCAST: Final = b"\xff" * 6
ARP: Final = 0x0806
IPV6: Final = 0x86DD
_REQUEST: Final = 1
_REPLY: Final = 2
_ICMPV6: Final = 58
_SOLICITATION: Final = 135
_ADVERTISEMENT: Final = 136
_OVERRIDE: Final = 0x20000000
_ALL_NODES: Final = IPv6Address("ff02::1")
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")


class Sighting(NamedTuple):
    """An ARP packet: its sender's addresses, and the address that it asks for."""

    mac: bytes
    sender: str
    target: str


def announcement(address: str, mac: bytes) -> Iterator[bytes]:
    """Announce that `address` is at `mac`: some neighbours process only requests, some only replies."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        yield _ethernet(BROADCAST, mac, ARP) + _arp(_REQUEST, (mac, ip.packed), (b"\0" * 6, ip.packed))
        yield _ethernet(BROADCAST, mac, ARP) + _arp(_REPLY, (mac, ip.packed), (BROADCAST, ip.packed))
    else:
        body = struct.pack("!I", _OVERRIDE) + ip.packed + b"\x02\x01" + mac
        yield _icmpv6(mac, ip, _ALL_NODES, _ADVERTISEMENT, body)


def probe(address: str, mac: bytes) -> bytes:
    """Probe for an owner of `address`, without a source address (RFC 5227)."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return _ethernet(BROADCAST, mac, ARP) + _arp(_REQUEST, (mac, b"\0" * 4), (b"\0" * 6, ip.packed))
    group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + ip.packed[13:])
    return _icmpv6(mac, IPv6Address(0), group, _SOLICITATION, b"\0" * 4 + ip.packed)


def question(address: str, mac: bytes, source: str) -> bytes:
    """Ask for the IPv4 `address`, as `source`: an ordinary ARP request."""
    sender = IPv4Address(source).packed
    return _ethernet(BROADCAST, mac, ARP) + _arp(_REQUEST, (mac, sender), (b"\0" * 6, IPv4Address(address).packed))


def read_arp(frame: bytes) -> Sighting | None:
    """Parse an ARP frame; None if it is not one for IPv4 on Ethernet."""
    if len(frame) < 14 + _ARP.size:
        return None
    hardware, protocol, hlen, plen, _, mac, sender, _, target = _ARP.unpack_from(frame, 14)
    if (hardware, protocol, hlen, plen) != (1, 0x0800, 6, 4):
        return None
    return Sighting(mac, str(IPv4Address(sender)), str(IPv4Address(target)))


def read_advertisement(message: bytes) -> Sighting | None:
    """Parse an ICMPv6 neighbour advertisement (without IPv6 header)."""
    if len(message) < 24 or message[0] != _ADVERTISEMENT:
        return None
    target = IPv6Address(message[8:24]).compressed
    mac = message[26:32] if message[24:26] == b"\x02\x01" and len(message) >= 32 else b""
    return Sighting(mac, target, target)


def _ethernet(target: bytes, source: bytes, kind: int) -> bytes:
    return target + source + struct.pack("!H", kind)


def _arp(operation: int, sender: tuple[bytes, bytes], target: tuple[bytes, bytes]) -> bytes:
    return _ARP.pack(1, 0x0800, 6, 4, operation, *sender, *target)


def _icmpv6(mac: bytes, source: IPv6Address, target: IPv6Address, kind: int, body: bytes) -> bytes:
    message = struct.pack("!BBH", kind, 0, 0) + body
    pseudo = source.packed + target.packed + struct.pack("!II", len(message), _ICMPV6)
    message = message[:2] + struct.pack("!H", _checksum(pseudo + message)) + message[4:]
    header = struct.pack("!IHBB", 0x60000000, len(message), _ICMPV6, 255) + source.packed + target.packed
    return _ethernet(b"\x33\x33" + target.packed[12:], mac, IPV6) + header + message


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
