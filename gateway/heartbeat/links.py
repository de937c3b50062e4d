"""The links that carry beats. Each sends and receives whole messages and never blocks."""

import contextlib
import errno
import os
import secrets
import socket
import struct
import termios
import tty
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from gateway.config.address import Listen
from gateway.config.cluster import Cluster, WitnessDisk
from gateway.config.cluster import Link as Description
from gateway.heartbeat.beat import MAX_BYTES, Codec
from gateway.heartbeat.disk import BadDisk, Disk, Voice
from gateway.heartbeat.disk_witness import DiskWitness

AT_ONCE: Final = 64
"""Messages read from a link before other work: a flood must not delay the sending of beats."""
_FREEBIND: Final = 15
_BIND_TO_DEVICE: Final = 25
_BROADCAST: Final = "255.255.255.255"


class NoLink(Exception):
    """The link cannot be used; the message gives the reason."""


class Link(Protocol):
    """A link for beats."""

    name: str
    sender: str
    """Who sent the message that `receive` has yielded last: an address, or the link's name if it has none."""

    def fileno(self) -> int:
        """The descriptor to wait for."""
        ...

    def send(self, message: bytes) -> None:
        """Send to every node on the link; a message that cannot be sent now is lost, as on any network."""
        ...

    def receive(self) -> Iterator[bytes]:
        """The messages that have arrived, at most AT_ONCE."""
        ...

    def close(self) -> None:
        """Close the link."""
        ...


class Udp:
    """UDP to each of `targets`, from a socket that is already bound."""

    def __init__(self, name: str, sock: socket.socket, targets: Sequence[tuple[str, int]]) -> None:
        self.name = self.sender = name
        self._socket = sock
        self._targets = list(targets)
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def send(self, message: bytes) -> None:
        """Send to each target."""
        for target in self._targets:
            with contextlib.suppress(OSError):
                self._socket.sendto(message, target)

    def receive(self) -> Iterator[bytes]:
        """Datagrams."""
        for _ in range(AT_ONCE):
            try:
                message, source = self._socket.recvfrom(MAX_BYTES + 1)
            except ConnectionError:
                continue  # an earlier datagram was refused by a target
            except OSError:
                return
            self.sender = source[0]
            yield message

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Serial:
    """A serial line, raw, with SLIP framing (RFC 1055). Data that does not fit into the line's buffer is lost."""

    END: Final = b"\xc0"

    def __init__(self, path: Path, baud: int) -> None:
        self.name = self.sender = f"serial {path}"
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise NoLink(f"{path}: {baud} is not a serial line speed")
        self._line = -1
        try:
            self._line = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            tty.setraw(self._line)
            settings = termios.tcgetattr(self._line)
            settings[2] |= termios.CLOCAL | termios.CREAD
            settings[4] = settings[5] = speed
            termios.tcsetattr(self._line, termios.TCSANOW, settings)
        except (OSError, termios.error) as error:
            if self._line >= 0:
                os.close(self._line)
            raise NoLink(f"{path}: {error}") from None
        self._read = bytearray()
        self._unsent = b""

    def fileno(self) -> int:
        """The line's descriptor."""
        return self._line

    def send(self, message: bytes) -> None:
        """Send, unless the previous message is still waiting for the line: a queue would only delay newer beats."""
        data = self._unsent or self.frame(message)
        try:
            written = os.write(self._line, data)
        except OSError:
            written = 0
        self._unsent = data[written:] if written else b""

    @classmethod
    def frame(cls, message: bytes) -> bytes:
        """The message between two END bytes."""
        return cls.END + message.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + cls.END

    def receive(self) -> Iterator[bytes]:
        """Frames."""
        try:
            self._read += os.read(self._line, 65536)
        except OSError:
            return
        *whole, rest = self._read.split(self.END)
        self._read = rest if len(rest) <= 2 * MAX_BYTES else bytearray()
        for frame in whole[-AT_ONCE:]:
            if frame:
                yield bytes(frame.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb"))

    def close(self) -> None:
        """Close the line."""
        os.close(self._line)


Bind = Callable[[str, int, str | None], socket.socket]
"""Creates a UDP socket: host, port, interface. Raises NoLink."""


def open_all(cluster: Cluster, me: str, codec: Codec, inherited: Iterable[int] = ()) -> list[Link]:
    """Open every link of the cluster, as `me`. Raises NoLink: a missing link must not remain unnoticed.

    `inherited`: descriptors of the UDP sockets of another process for the same links, in the same order.
    """
    links: list[Link] = []
    others = [name for name in cluster.nodes if name != me]
    left = iter(inherited)

    def bind(host: str, port: int, interface: str | None) -> socket.socket:
        descriptor = next(left, None)
        return bound(host, port, interface) if descriptor is None else _adopted(descriptor, host, port)

    for description in cluster.heartbeat.links:
        if description.udp is not None:
            links.append(_udp(description, cluster, me, others, bind))
        elif description.multicast is not None:
            links.append(_multicast(description, cluster.nodes[me], bind))
        elif description.serial is not None:
            links.append(Serial(description.serial, description.baud))
        elif description.disk is not None:
            links.append(_disk(description.disk, cluster, me, codec))
    if isinstance(cluster.witness, WitnessDisk):
        if cluster.witness.disk not in [description.disk for description in cluster.heartbeat.links]:
            links.append(_disk(cluster.witness.disk, cluster, me, codec, carries=False))
    elif cluster.witness is not None:
        links.append(_witness(cluster.witness, cluster.nodes[me], bind))
    return links


def bound(host: str, port: int, interface: str | None = None) -> socket.socket:
    """A UDP socket bound there, even if the address does not exist yet. Raises NoLink.

    Neither SO_REUSEADDR nor SO_REUSEPORT: with the former, any local user could bind the same address and receive this
    socket's datagrams; with the latter, a process of the same user (socket(7)).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
        if interface is not None:
            sock.setsockopt(socket.SOL_SOCKET, _BIND_TO_DEVICE, interface.encode() + b"\0")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        where = f" on {interface}" if interface else ""
        raise NoLink(f"cannot use UDP {Listen(host, port)}{where}: {(error.strerror or '').lower()}") from None
    return sock


def _adopted(descriptor: int, host: str, port: int) -> socket.socket:
    """The inherited socket that is bound there. Raises NoLink."""
    try:
        sock = socket.socket(fileno=descriptor)
        own, number = sock.getsockname()[:2]
    except OSError as error:
        raise NoLink(f"descriptor {descriptor} is not a UDP socket: {error.strerror}") from None
    if sock.type != socket.SOCK_DGRAM or host not in {"", own} or port not in {0, number}:
        raise NoLink(f"descriptor {descriptor} is not bound to UDP {Listen(host, port)}")
    return sock


def _udp(link: Description, cluster: Cluster, me: str, others: Sequence[str], bind: Bind) -> Udp:
    port = link.udp or 0
    if link.interface is None:
        own = cluster.nodes[me]
        return Udp(link.name, bind(own, port, None), [(cluster.nodes[name], port) for name in others])
    if not link.nodes:
        # Not bound to every address: that would collide with a link on the node's own address.
        return Udp(link.name, bind(_BROADCAST, port, link.interface), [(_BROADCAST, port)])
    if me not in link.nodes:
        raise NoLink(f"{link.name}: {me} has no address in its nodes")
    targets = [(link.nodes[name], port) for name in others if name in link.nodes]
    return Udp(link.name, bind(link.nodes[me], port, link.interface), targets)


def _multicast(link: Description, own: str, bind: Bind) -> Udp:
    group = link.multicast or ""
    sock = bind(group, link.port, link.interface)
    try:
        if link.interface is not None:
            index = socket.if_nametoindex(link.interface)
            where = socket.inet_aton("0.0.0.0")  # noqa: S104 - any address: the index decides
        else:
            index, where = 0, socket.inet_aton(own)
        member = struct.pack("=4s4si", socket.inet_aton(group), where, index)
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:  # an inherited socket is already a member
                raise
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, member)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    except OSError as error:
        sock.close()
        raise NoLink(f"{link.name}: {(error.strerror or str(error)).lower()}") from None
    return Udp(link.name, sock, [(group, link.port)])


def _disk(path: Path, cluster: Cluster, me: str, codec: Codec, *, carries: bool = True) -> Disk:
    names = sorted(cluster.nodes)  # the order in the file may differ between nodes
    votes = isinstance(cluster.witness, WitnessDisk) and cluster.witness.disk == path
    others = [place for place in range(len(names)) if names[place] != me]
    voice = Voice(codec, DiskWitness(secrets.randbits(63), others)) if votes else None
    period = cluster.heartbeat.interval / 2
    try:
        return Disk(path, names.index(me), len(names), period, voice, carries=carries)
    except BadDisk as problem:
        raise NoLink(str(problem)) from None


def _witness(witness: Listen, own: str, bind: Bind) -> Udp:
    source = own if (":" in own) == (":" in witness.host) else ""
    return Udp("witness", bind(source, 0, None), [(witness.host, witness.port)])
