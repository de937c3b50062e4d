"""A hardware address that moves with a shared address: neighbours keep their cache entries.

The address is added to a macvlan interface of its own on top of the network interface, with the hardware address that
VRRP reserves (RFC 9568 section 7.3: 00-00-5E-00-01-xx for IPv4, 00-00-5E-00-02-xx for IPv6). The network interface
itself must neither answer for the address nor send requests from it, so two of its settings are changed.
"""

import contextlib
import os
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from gateway.heartbeat.interfaces import Interface, NoInterface, change_address

_PREFIX: Final = {4: "00:00:5e:00:01", 6: "00:00:5e:00:02"}
_NO_PREFIX_ROUTE: Final = 0x200  # IFA_F_NOPREFIXROUTE: its network is reached through the interface below
_SETTINGS: Final = {
    # of the macvlan, which only receives: frames are sent through the interface below
    "ipv4/conf/{}/arp_ignore": "1",
    "ipv4/conf/{}/rp_filter": "2",
    "ipv6/conf/{}/accept_ra": "0",
    "ipv6/conf/{}/addr_gen_mode": "1",
}
_SETTINGS_BELOW: Final = {"ipv4/conf/{}/arp_ignore": "1", "ipv4/conf/{}/arp_announce": "2"}


class VirtualMac:
    """The interface of one address with a virtual hardware address. Created as root; then needs CAP_NET_ADMIN."""

    def __init__(self, below: Interface, version: int, number: int, netlink: IPRoute, *, keep: bool = False) -> None:
        """Create the interface; `keep`: reuse an existing one. Raises NoInterface."""
        self.name = f"vmac{number}v{version}"
        self._netlink = netlink
        text = f"{_PREFIX[version]}:{number:02x}"
        self.mac = bytes.fromhex(text.replace(":", ""))
        try:
            if not keep:
                for index in netlink.link_lookup(ifname=self.name):
                    netlink.link("del", index=index)
                netlink.link(
                    "add", ifname=self.name, kind="macvlan", link=below.index, macvlan_mode="private", address=text
                )
            (self.index,) = netlink.link_lookup(ifname=self.name)
        except (NetlinkError, ValueError) as error:
            raise NoInterface(f"no virtual hardware address on {below.name}: {error}") from None
        for path, value in _SETTINGS.items():
            _write(path.format(self.name), value)
        for path, value in _SETTINGS_BELOW.items():
            _write(path.format(below.name), value)

    def close(self) -> None:
        """Remove the interface."""
        with contextlib.suppress(NetlinkError):
            self._netlink.link("del", index=self.index)

    def add(self, address: IPv4Interface | IPv6Interface) -> None:
        """Add the address, or renew it. Raises OSError."""
        try:
            self._netlink.link("set", index=self.index, state="up")
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code).lower()) from None
        change_address(self._netlink, self.index, "replace", address, _NO_PREFIX_ROUTE)

    def remove(self, address: IPv4Interface | IPv6Interface) -> None:
        """Remove the address and the interface: a switch must no longer see its hardware address from here."""
        with contextlib.suppress(OSError):
            change_address(self._netlink, self.index, "del", address)
        with contextlib.suppress(NetlinkError):
            self._netlink.link("set", index=self.index, state="down")


def _write(path: str, value: str) -> None:
    with contextlib.suppress(OSError):  # IPv6 may be disabled
        (Path("/proc/sys/net") / path).write_text(value)
