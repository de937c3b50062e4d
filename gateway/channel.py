"""What the supervisor and its children say to each other: typed messages over a socket pair, with descriptors.

Both ends belong to the same program, which wrote every byte: hence pickle.
"""

import array
import os
import pickle
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.config.address import Listen
from gateway.config.discovery import Found
from gateway.config.model import Route
from gateway.config.snapshot import Snapshot

HEADER: Final = struct.Struct("!QH")
"""Length of the pickled message in bytes, number of descriptors."""
BATCH: Final = 250
"""Descriptors passed with one piece of a message; the kernel takes at most 253 (unix(7), SCM_MAX_FD)."""
SEND_TIMEOUT: Final = 10.0
PIECE: Final = 100
"""Routes pickled together: to unpickle them is one step for the interpreter, and a worker's traffic waits so long."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A snapshot, pickled: once for all who get it."""

    body: bytes
    """All but the routes and the rules of Apache."""
    routes: tuple[bytes, ...] = ()
    rules: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Packed":
        """Pack a snapshot."""
        routes = snapshot.site.routes
        pieces = (routes[i : i + PIECE] for i in range(0, len(routes), PIECE))
        body = _pickled(snapshot.with_routes((), {}))
        return cls(body, tuple(map(_pickled, pieces)), tuple(map(_pickled, snapshot.rules.items())))

    @property
    def bare(self) -> "Packed":
        """The same without routes, for those who carry no request: they are nearly all that a large site has."""
        return Packed(self.body)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot, unpacked: that of a large site takes a while."""
        bare: Snapshot = pickle.loads(self.body)  # noqa: S301 - see the module
        rules = dict(pickle.loads(file) for file in self.rules)  # noqa: S301 - see the module
        return bare.with_routes(tuple(self._unpacked()), rules)

    def _unpacked(self) -> Iterator[Route]:
        for piece in self.routes:
            yield from pickle.loads(piece)  # noqa: S301 - see the module


@dataclass(frozen=True, slots=True)
class Apply:
    """Work by the snapshot that is `packed`, adding up the first `cells` workers' counts on the Board.

    `sockets` has the `identity` of each socket to accept from; the others are let go. `listens` names the descriptors
    of new ones that come along; then one for the access log, if `log`. `control` names the new sockets of
    control that come along: reports, sites, admin.
    """

    packed: Packed
    cells: int
    sockets: frozenset[int] = frozenset()
    listens: tuple[Listen, ...] = ()
    log: bool = False
    control: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReopenLog:
    """Go on in the file whose descriptor comes along."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Accept no more, finish what runs within so many seconds, then end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Bequeath:
    """A successor of the whole gateway is at work: leave what you hold to its heartbeat, and end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A child works by the snapshot of this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Discovered:
    """Control has these new answers from the name service."""

    found: Found


Message = Apply | Bequeath | ReopenLog | Drain | Ready | Discovered


class Closed(Exception):
    """The other end is gone."""


def identity(sock: socket.socket) -> int:
    """Return its inode number, by which every process that has a descriptor of it knows it."""
    return os.fstat(sock.fileno()).st_ino


class Channel:
    """One end. `send` may block for SEND_TIMEOUT; `receive` never does."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._bytes = bytearray()
        self._descriptors: list[int] = []

    @classmethod
    def pair(cls) -> "tuple[Channel, Channel]":
        """Two connected ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(one), cls(other)

    def fileno(self) -> int:
        """The descriptor, for a selector."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self.socket.close()

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message with descriptors. Raises Closed if the other end takes no more."""
        body = _pickled(message)
        block = HEADER.pack(len(body), len(descriptors)) + body
        try:
            self.socket.settimeout(SEND_TIMEOUT)
            while len(descriptors) > BATCH:  # each batch goes with a byte: all are there when the message is
                self.socket.sendmsg([block[:1]], _rights(descriptors[:BATCH]))
                block, descriptors = block[1:], descriptors[BATCH:]
            sent = self.socket.sendmsg([block], _rights(descriptors))
            if sent < len(block):  # sending nothing fails if the other end has obeyed and gone by now
                self.socket.sendall(block[sent:])
        except OSError as error:
            raise Closed(str(error)) from None

    def receive(self) -> list[tuple[Message, list[int]]]:
        """What has arrived since the last call, each message with its descriptors. Raises Closed."""
        self.socket.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        ended = False
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4 * BATCH))
            except BlockingIOError:
                break
            except OSError:
                data, ancillary = b"", []
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    whole = len(content) - len(content) % 4
                    self._descriptors.extend(array.array("i", content[:whole]))
            if not data:
                ended = True
                break
            self._bytes += data
        messages = list(self._complete())
        if ended and not messages:
            raise Closed("the other end is gone")
        return messages

    def _complete(self) -> "list[tuple[Message, list[int]]]":
        found: list[tuple[Message, list[int]]] = []
        while len(self._bytes) >= HEADER.size:
            length, count = HEADER.unpack_from(self._bytes)
            if len(self._bytes) < HEADER.size + length:
                break
            message = pickle.loads(bytes(self._bytes[HEADER.size : HEADER.size + length]))  # noqa: S301 - see the module
            del self._bytes[: HEADER.size + length]
            descriptors, self._descriptors = self._descriptors[:count], self._descriptors[count:]
            found.append((message, descriptors))
        return found


def _pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def _rights(descriptors: tuple[int, ...]) -> list[tuple[int, int, "array.array[int]"]]:
    """Ancillary data of sendmsg."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
