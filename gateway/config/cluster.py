"""The `cluster:` section of the site file: the gateways of a site, and the addresses they share."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address, ip_interface
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from gateway.config.address import Listen
from gateway.config.fields import (
    Duration,
    File,
    Flag,
    Given,
    Model,
    Name,
    PositiveDuration,
    Some,
    Text,
    Whole,
    at_least,
    text,
)
from gateway.config.problem import Fault, suggest

PORT: Final = 694
"""UDP, ha-cluster in the registry of IANA."""
WITNESS: Final = "witness"
"""No node can have this name: it denotes the witness."""
MAX_ADDRESSES: Final = 32
MAX_NODES: Final = 16
_INTERFACE: Final = re.compile(r"[^\s/:]{1,15}")


def _ip(value: object) -> str:
    written = text(value, "an IP address")
    try:
        return ip_address(written).compressed
    except ValueError:
        raise ValueError(f"{written} is not an IP address") from None


def _group(value: str) -> str:
    ip = ip_address(value)
    if not isinstance(ip, IPv4Address) or not ip.is_multicast:
        raise ValueError(f"{value} is not an IPv4 multicast group such as 239.0.0.94")
    return value


def _interface_address(value: object) -> IPv4Interface | IPv6Interface:
    if isinstance(value, IPv4Interface | IPv6Interface):
        return value
    written = text(value, "an address such as 192.0.2.10/24")
    try:
        found = ip_interface(written)
    except ValueError:
        raise ValueError(f"{written} is not an address with its prefix such as 192.0.2.10/24") from None
    if "/" not in written:
        raise ValueError(f"{written} needs the length of its network's prefix, such as {written}/24")
    if found.ip.is_loopback or found.ip.is_multicast or found.ip.is_unspecified or found.ip.is_link_local:
        raise ValueError(f"{written} cannot be a shared address")
    return found


def _virtual_mac(value: object) -> int | None:
    if value is False:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 255:
        raise ValueError("expected a number from 1 to 255, or true")
    return value


def _witness(value: object, info: ValidationInfo) -> "Listen | WitnessDisk":
    if isinstance(value, Listen | WitnessDisk):
        return value
    if isinstance(value, dict):
        return _witness_disk(value, info)
    written = text(value, "an address such as 192.168.7.9 or 192.168.7.9:694, or {disk: /dev/...}")
    host, colon, port = written.rpartition(":")
    try:
        if written.startswith("[") or (colon and ":" not in host):
            ip = ip_address(host.strip("[]"))
            number = int(port)
            if not 1 <= number <= 65535:
                raise ValueError
            return Listen(ip.compressed, number)
        return Listen(ip_address(written).compressed, PORT)
    except ValueError:
        raise ValueError(f"{written} is not an address such as 192.168.7.9 or 192.168.7.9:694") from None


def _witness_disk(value: dict[object, object], info: ValidationInfo) -> "WitnessDisk":
    for key in value:
        if key == "etcd":
            message = "etcd cannot be the witness: give the address of a `gateway witness`, or {disk: /dev/...}"
            raise Fault(message, "etcd", key=True)
        if key != "disk":
            raise Fault(f"a witness is an address or {{disk: /dev/...}}, not {key}", str(key), key=True)
    try:
        return WitnessDisk(TypeAdapter(File).validate_python(value.get("disk"), context=info.context))
    except ValidationError:
        raise ValueError("expected {disk: /dev/...}, the name of a device or file") from None


def _interface(value: str) -> str:
    if not _INTERFACE.fullmatch(value):
        raise ValueError("expected the name of a network interface such as eth0")
    return value


def _program(value: str) -> str:
    if not value.startswith("/") or not value.isprintable():
        raise ValueError("expected the absolute path of a program")
    return value


@dataclass(frozen=True, slots=True)
class WitnessDisk:
    """A lease on a disk as witness: a block device or file that all nodes share, with a block for each."""

    disk: Path


Ip: TypeAlias = Annotated[str, PlainValidator(_ip), WithJsonSchema({"type": "string", "examples": ["192.168.7.1"]})]
Interface: TypeAlias = Annotated[Text, AfterValidator(_interface)]
Program: TypeAlias = Annotated[Text, AfterValidator(_program)]
Port: TypeAlias = Annotated[Whole, Field(ge=1, le=65535)]


class Link(Model):
    """A link for beats: one of udp, multicast, serial, disk."""

    udp: Annotated[Port | None, Given()] = Field(
        None, description="Unicast from node to node, on this port. With interface: broadcast there, or nodes."
    )
    multicast: Annotated[Annotated[Ip, AfterValidator(_group)] | None, Given()] = Field(
        None, description="IPv4 multicast group that all nodes join."
    )
    serial: Annotated[File | None, Given()] = Field(None, description="Serial line to the other of two nodes.")
    disk: Annotated[File | None, Given()] = Field(
        None, description="Block device or file shared by all nodes; each writes its own block."
    )
    interface: Annotated[Interface | None, Given()] = Field(None, description="Network interface (udp, multicast).")
    nodes: dict[Name, Ip] = Field({}, description="Addresses of the nodes on that interface (udp).")
    port: Port = Field(PORT, description="UDP port (multicast).")
    baud: Whole = Field(115200, description="Speed of the line (serial).")

    @property
    def name(self) -> str:
        """The name in the status."""
        if self.udp is not None:
            return f"udp {self.interface}" if self.interface else "udp"
        if self.multicast is not None:
            return f"multicast {self.multicast}"
        return f"serial {self.serial}" if self.serial is not None else f"disk {self.disk}"

    @model_validator(mode="after")
    def _one_kind(self) -> "Link":
        kinds = [kind for kind in ("udp", "multicast", "serial", "disk") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise Fault("a link needs exactly one of udp, multicast, serial, disk")
        allowed = {"udp": {"interface", "nodes"}, "multicast": {"interface", "port"}, "serial": {"baud"}}
        for key in self.model_fields_set - {kinds[0]} - allowed.get(kinds[0], set()):
            raise Fault(f"{key} cannot be combined with {kinds[0]}", key, key=True)
        return self


class Heartbeat(Model):
    """The settings of the heartbeat between the nodes."""

    interval: Annotated[PositiveDuration, at_least(0.01)] = Field(
        "100ms", validate_default=True, description="Time between beats."
    )
    dead_after: PositiveDuration = Field(
        "400ms",
        validate_default=True,
        description="Silence on every link after which a node is dead; also the length of an owner's lease.",
    )
    links: Annotated[tuple[Link, ...], Some()] = Field(
        default_factory=lambda: (Link(udp=PORT),),
        description=f"Links for beats, used in parallel. Default: UDP on port {PORT}, from node to node.",
    )

    @model_validator(mode="after")
    def _patient(self) -> "Heartbeat":
        if self.dead_after < 3 * self.interval:
            raise Fault("must be at least three times interval: a single lost beat would move addresses", "dead_after")
        if self.dead_after > 10:
            raise Fault("must be at most 10s", "dead_after")
        return self


class SharedAddress(Model):
    """An address that one node at a time owns."""

    address: Annotated[
        IPv4Interface | IPv6Interface,
        PlainValidator(_interface_address),
        WithJsonSchema({"type": "string", "examples": ["192.0.2.10/24", "2001:db8::10/64"]}),
    ] = Field(description="Address with the length of its network's prefix.")
    interface: Interface = Field(description="Network interface to add it to.")
    prefer: Annotated[Name | None, Given()] = Field(None, description="Preferred owner. Default: the first of nodes.")
    virtual_mac: Annotated[
        Annotated[int, PlainValidator(_virtual_mac), WithJsonSchema({"type": ["integer", "boolean"]})] | None, Given()
    ] = Field(
        None,
        description="Number from 1 to 255: a hardware address that moves with it, the same as VRRP's with that number "
        "as virtual router; true: the last byte of the address. Default: the hardware address of its interface.",
    )
    failback: Flag = Field(default=False, description="Return the address to the preferred node when it is back.")

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        """Accept `virtual_mac: true`, too."""
        if isinstance(value, dict) and value.get("virtual_mac") is True:
            with contextlib.suppress(ValueError):
                number = ip_interface(str(value.get("address"))).ip.packed[-1] or 255
                return {**value, "virtual_mac": number}
        return value

    @property
    def ip(self) -> str:
        """The address without prefix, in its canonical form."""
        return self.address.ip.compressed


class Resource(Model):
    """A program that runs on the owner of an address."""

    name: Name = Field(description="Name in logs and status.")
    run: Program = Field(description="Program that accepts start, stop and monitor (or status) as its argument.")
    on: Ip = Field(alias="with", description="The shared address whose owner runs it.")
    monitor: Annotated[Duration | None, Given()] = Field(
        None, description="Time between two calls of monitor. Default: never."
    )
    timeout: PositiveDuration = Field("20s", validate_default=True, description="Timeout of each action.")
    failures: Annotated[Whole, Field(ge=1, le=100)] = Field(
        3, description="Consecutive failures after which the address moves; before that, the program is restarted."
    )


class Cluster(Model):
    """The gateways of a site."""

    name: Annotated[Name | None, Given()] = Field(
        None,
        description="Name of the cluster: it tells apart clusters that have the same key and a network or witness in "
        "common. All nodes must have the same, and change it while all are stopped. Default: it has none.",
    )
    key_file: File = Field(description="Key that authenticates every beat; only its owner may read the file.")
    nodes: dict[Name, Ip] = Field(description="Every gateway of the site by name, with its own address.")
    listen: Annotated[Annotated[Whole, Field(ge=1024, le=65535)] | None, Given()] = Field(
        None,
        description="UDP port on the nodes' own addresses where gateways tell each other which servers to check now, "
        "and what rates and sessions have used; with acme the TCP port, too, for certificates. Default: each finds out "
        "by itself, and counts by itself.",
    )
    witness: Annotated[
        Annotated[
            Listen | WitnessDisk,
            PlainValidator(_witness),
            WithJsonSchema(
                {
                    "anyOf": [
                        {"type": "string", "examples": ["192.168.7.9", "192.168.7.9:694"]},
                        {
                            "type": "object",
                            "properties": {"disk": {"type": "string"}},
                            "required": ["disk"],
                            "additionalProperties": False,
                        },
                    ]
                }
            ),
        ]
        | None,
        Given(),
    ] = Field(
        None,
        description="A third voice, so that two nodes can never both own an address: where `gateway witness` runs, or "
        "{disk: a block device or file that all nodes share}.",
    )
    router: Annotated[Ip | None, Given()] = Field(
        None, description="Address that a serving node must reach. Default: the gateway of the default route."
    )
    heartbeat: Heartbeat = Field(default_factory=Heartbeat, description="Heartbeat between the nodes.")
    addresses: tuple[SharedAddress, ...] = Field((), description="Shared addresses: one node at a time owns each.")
    resources: tuple[Resource, ...] = Field((), description="Programs that run on the owner of an address.")
    fence: Annotated[Program | None, Given()] = Field(
        None, description="Program that must succeed before the address of a dead node is taken over."
    )
    on_takeover: Annotated[Program | None, Given()] = Field(None, description="Program to run after a takeover.")
    on_release: Annotated[Program | None, Given()] = Field(None, description="Program to run after a release.")

    @model_validator(mode="after")
    def _consistent(self) -> "Cluster":
        if not 1 <= len(self.nodes) <= MAX_NODES:
            raise Fault(f"expected 1 to {MAX_NODES} nodes", "nodes")
        if WITNESS in self.nodes:
            raise Fault(f"{WITNESS} is the reserved name of the witness", "nodes", WITNESS, key=True)
        if len(self.addresses) > MAX_ADDRESSES:
            raise Fault(f"at most {MAX_ADDRESSES}", "addresses")
        self._known(self.nodes)
        self._ports()
        return self

    def _ports(self) -> None:
        """Each socket has a UDP port of its own."""
        seen: dict[tuple[object, ...], int] = {}
        for i, link in enumerate(self.heartbeat.links):
            if link.udp is not None and link.udp == self.listen and link.interface is None:
                raise Fault(f"UDP port {link.udp} is used for beats: choose another one", "listen")
            if link.udp is None and link.multicast is None:
                continue
            place = link.udp, link.multicast, link.port, link.interface, *sorted(link.nodes.items())
            if place in seen:
                raise Fault(f"duplicate of links[{seen[place]}]", "heartbeat", "links", i)
            seen[place] = i

    def _known(self, nodes: Mapping[str, str]) -> None:
        """Names must refer to existing things."""
        ips = [shared.ip for shared in self.addresses]
        for i, shared in enumerate(self.addresses):
            if shared.prefer is not None and shared.prefer not in nodes:
                raise Fault(
                    f"there is no node {shared.prefer}{suggest(shared.prefer, nodes)}", "addresses", i, "prefer"
                )
            twins = [(other.address.version, other.virtual_mac) for other in self.addresses[:i] if other.virtual_mac]
            if (shared.address.version, shared.virtual_mac) in twins:
                message = f"another address has virtual_mac {shared.virtual_mac}: the two could not move independently"
                raise Fault(message, "addresses", i, "virtual_mac")
            if shared.ip in ips[:i]:
                raise Fault(f"{shared.ip} is shared twice", "addresses", i, "address")
            if shared.ip in nodes.values():
                raise Fault(f"{shared.ip} is a node's own address", "addresses", i, "address")
        for i, resource in enumerate(self.resources):
            if resource.on not in ips:
                raise Fault(f"{resource.on} is not one of addresses", "resources", i, "with")
        for i, link in enumerate(self.heartbeat.links):
            for name in link.nodes.keys() - nodes.keys():
                raise Fault(
                    f"there is no node {name}{suggest(name, nodes)}", "heartbeat", "links", i, "nodes", name, key=True
                )
