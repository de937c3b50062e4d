"""Network interfaces: adds and removes addresses, sends frames, receives neighbours' announcements."""

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from gateway.heartbeat import frames
from gateway.heartbeat.frames import Sighting

LIFETIME: Final = 2
"""Seconds until the kernel removes an address that is not renewed; it may take one second more."""
RENEW: Final = 0.5
AT_ONCE: Final = 64
"""Frames read before other work."""
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFHWADDR: Final = 0x8927
_UP_AND_RUNNING: Final = 0x1 | 0x40
_ICMPV6_FILTER: Final = 1
_NO_DAD: Final = 0x02
_ETHERNET: Final = 1


class NoInterface(Exception):
    """The interface does not exist, or cannot share addresses; the message says which."""


class Interface:
    """One network interface. Needs CAP_NET_RAW when made, and CAP_NET_ADMIN to change addresses."""

    def __init__(self, name: str, netlink: IPRoute) -> None:
        self.name = name
        self._netlink = netlink
        self._asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self.index = socket.if_nametoindex(name)
            kind, self.mac = struct.unpack("=H6s", self._ask(_SIOCGIFHWADDR)[16:24])
        except OSError:
            self._asking.close()
            raise NoInterface(f"there is no network interface {name}") from None
        if kind != _ETHERNET:
            self._asking.close()
            raise NoInterface(f"{name} is not an Ethernet interface")
        self.arp = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        self.arp.bind((name, frames.ARP))
        self.icmp = socket.socket(
            socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6
        )
        wanted = bytearray(b"\xff" * 32)
        wanted[136 // 8] &= ~(1 << 136 % 8)  # a set bit blocks: only advertisements pass (RFC 3542 section 3.2)
        self.icmp.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, bytes(wanted))
        self.icmp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")

    def close(self) -> None:
        """Close the sockets."""
        for sock in (self._asking, self.arp, self.icmp):
            sock.close()

    @property
    def works(self) -> bool:
        """Whether it is up and has a carrier."""
        try:
            (flags,) = struct.unpack("=H", self._ask(_SIOCGIFFLAGS)[16:18])
        except OSError:
            return False
        return bool(flags & _UP_AND_RUNNING == _UP_AND_RUNNING)

    def add(self, address: IPv4Interface | IPv6Interface) -> None:
        """Add the address, or renew it: otherwise the kernel removes it after LIFETIME. Raises OSError."""
        change_address(self._netlink, self.index, "replace", address)

    def remove(self, address: IPv4Interface | IPv6Interface) -> None:
        """Remove the address, if it is there."""
        with contextlib.suppress(OSError):
            change_address(self._netlink, self.index, "del", address)

    def send(self, frame: bytes) -> None:
        """Send an Ethernet frame; on an interface that is down it is lost."""
        with contextlib.suppress(OSError):
            self.arp.sendto(frame, (self.name, struct.unpack("!H", frame[12:14])[0]))

    def announce(self, address: str, mac: bytes) -> None:
        """Announce to all neighbours that the address is at `mac`."""
        for frame in frames.announcement(address, mac):
            self.send(frame)

    def sightings(self) -> Iterable[Sighting]:
        """The neighbours' announcements since the last call."""
        for sock, read in ((self.arp, frames.read_arp), (self.icmp, frames.read_advertisement)):
            for _ in range(AT_ONCE):
                try:
                    data = sock.recv(2048)
                except OSError:
                    break
                sighting = read(data)
                if sighting is not None and sighting.mac != self.mac:
                    yield sighting

    def _ask(self, what: int) -> bytes:
        return fcntl.ioctl(self._asking, what, struct.pack("=16s24x", self.name.encode()))


def change_address(
    netlink: IPRoute, index: int, command: str, address: IPv4Interface | IPv6Interface, flags: int = 0
) -> None:
    """Add (or renew, "replace") or remove ("del") an address; an added one has LIFETIME. Raises OSError."""
    more: dict[str, int] = {}
    if command == "replace":
        flags |= _NO_DAD if address.version == 6 else 0
        more = {"preferred_lft": LIFETIME, "valid_lft": LIFETIME} | ({"IFA_FLAGS": flags} if flags else {})
    try:
        netlink.addr(command, index=index, address=address.ip.compressed, prefixlen=address.network.prefixlen, **more)
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code).lower()) from None


def router(netlink: IPRoute, interface: Interface) -> str | None:
    """The gateway of the IPv4 default route, if the route uses `interface`."""
    for route in netlink.get_default_routes(family=socket.AF_INET):
        if route.get_attr("RTA_OIF") == interface.index:
            gateway = route.get_attr("RTA_GATEWAY")
            return str(gateway) if gateway else None
    return None


def own_address(netlink: IPRoute, interface: Interface, target: str) -> str | None:
    """The address of `interface` from which the IPv4 `target` is reached."""
    for found in netlink.get_addr(family=socket.AF_INET, index=interface.index):
        network = IPv4Interface(f"{found.get_attr('IFA_ADDRESS')}/{found['prefixlen']}").network
        if IPv4Interface(target).ip in network:
            return str(found.get_attr("IFA_ADDRESS"))
    return None


SETTINGS: Final = {
    # path below /proc/sys/net → value that is needed, and why
    "ipv4/conf/{}/arp_ignore": ("1", "other interfaces on the same network answer ARP for the address as well"),
    "ipv4/conf/{}/arp_announce": ("2", "the address may be announced from another interface"),
    "ipv4/conf/{}/promote_secondaries": ("1", "removing an address may remove others of its network"),
    "ipv6/conf/{}/disable_ipv6": ("0", "IPv6 is off there"),
}


def doubts(interface: str, *, ipv4: bool, ipv6: bool, kernel: Path = Path("/proc/sys/net")) -> Iterable[str]:
    """Kernel settings that may prevent an address from moving properly, from the files below `kernel`."""
    for path, (wanted, why) in SETTINGS.items():
        if (path.startswith("ipv4") and not ipv4) or (path.startswith("ipv6") and not ipv6):
            continue
        # Those of IPv4 count for an interface if they are set for all (linux/inetdevice.h).
        places = (interface, "all") if path.startswith("ipv4") else (interface,)
        try:
            values = {(kernel / path.format(place)).read_text().strip() for place in places}
        except OSError:
            continue
        if wanted not in values and not (wanted == "1" and values & {"2", "8"}):
            yield f"net.{path.format(interface).replace('/', '.')} is {min(values)}, should be {wanted}: {why}"
