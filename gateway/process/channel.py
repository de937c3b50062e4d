"""The messages between the supervisor and its children, over a socket pair.

Down go *orders*, pickled, with descriptors: a child trusts the supervisor, which made it. Up go *reports*: JSON in a
fixed form and of bounded length, checked before anything is done with it. The supervisor is root and trusts no child:
a compromised one may send anything, and is killed for a message that is not a valid report.
"""

import array
import json
import os
import pickle
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from gateway.config import discovery
from gateway.config.address import Listen
from gateway.config.discovery import Found
from gateway.config.model import Route
from gateway.config.snapshot import Snapshot
from gateway.process.tail import Wanted
from gateway.system import plain_json

HEADER: Final = struct.Struct("!QH")
"""Of an order: length of the pickled message in bytes, number of descriptors."""
REPORT_HEADER: Final = struct.Struct("!I")
"""Of a report: length of the JSON text in bytes."""
MAX_REPORT: Final = 8 * 1024 * 1024
"""Bytes of a report; the servers found by name of a full board take a quarter of it."""
MAX_REPORTS: Final = 1000
"""Waiting reports of one child: an honest one sends a few per second, and the supervisor is never busy for a minute."""
MAX_VERSION: Final = 2**53
BATCH: Final = 250
"""Descriptors passed with one piece of a message; the kernel takes at most 253 (unix(7), SCM_MAX_FD)."""
SEND_TIMEOUT: Final = 10.0
READ: Final = 1 << 16
"""Bytes that the supervisor takes from a child at once."""
PIECE: Final = 100
"""Routes pickled together: to unpickle them is one step for the interpreter, and a worker's traffic waits so long."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A snapshot, pickled: once for all who get it."""

    body: bytes
    """All but the routes, the rules of Apache, the tables of maps, and the MaxMind file: these go by descriptors."""
    routes: tuple[bytes, ...] = ()
    rules: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Packed":
        """Pack a snapshot."""
        routes = snapshot.site.routes
        pieces = (routes[i : i + PIECE] for i in range(0, len(routes), PIECE))
        body = _pickled(snapshot.with_routes((), {}).with_maps({}).with_database(None))
        return cls(body, tuple(map(_pickled, pieces)), tuple(map(_pickled, snapshot.rules.items())))

    @property
    def bare(self) -> "Packed":
        """The same without routes, for processes without requests: routes are the largest part of a large site."""
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
    """Use the snapshot that is `packed`; the counts of the first `cells` workers on the Board are summed.

    `sockets` has the `identity` of each socket that stays or comes; the others are closed. Descriptors that come along,
    in this order: of the `new` sockets, which have a name and an address each; of the access log, if `log`; of the
    Vault, if `vault`; of the tables of `maps`, by name; of the MaxMind file, if `database`.
    """

    packed: Packed
    cells: int
    sockets: frozenset[int] = frozenset()
    new: tuple[tuple[str, Listen], ...] = ()
    log: bool = False
    vault: bool = False
    maps: tuple[str, ...] = ()
    database: bool = False


@dataclass(frozen=True, slots=True)
class ReopenLog:
    """Continue the log in the file whose descriptor comes with it."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop accepting, finish running requests within `seconds`, then end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HandOver:
    """The next gateway carries the traffic: hand everything over to its process of the same role, and end."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Write what is wanted to the socket whose descriptor comes with it, until it is closed; for those with traffic."""

    number: int
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Unfollow:
    """Nobody reads any more what Follow with this number has begun."""

    number: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A child uses the snapshot of this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Discovered:
    """Control has these new answers from the name service."""

    found: Found


@dataclass(frozen=True, slots=True)
class Command:
    """An operator asks the supervisor for something, over the admin listener; `number` is for its Answered."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The supervisor's answer to the Command of this number."""

    number: int
    answer: dict[str, Any]


Order = Apply | HandOver | ReopenLog | Drain | Follow | Unfollow | Answered
Report = Ready | Discovered | Command


class BadReport(Exception):
    """A child sent an invalid report; the text says what is wrong with it."""


class Closed(Exception):
    """The other end has closed the channel."""


def identity(sock: socket.socket) -> int:
    """Return its inode number, by which every process that has a descriptor of it knows it."""
    return os.fstat(sock.fileno()).st_ino


class _End:
    """One end of the pair."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._bytes = bytearray()

    def fileno(self) -> int:
        """The descriptor, for a selector; -1 once closed."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self.socket.close()

    def _send(self, block: bytes, descriptors: tuple[int, ...] = ()) -> None:
        try:
            self.socket.settimeout(SEND_TIMEOUT)
            while len(descriptors) > BATCH:  # each batch goes with a byte: all are there when the message is
                self.socket.sendmsg([block[:1]], _rights(descriptors[:BATCH]))
                block, descriptors = block[1:], descriptors[BATCH:]
            sent = self.socket.sendmsg([block], _rights(descriptors))
            if sent < len(block):  # sending nothing fails if the other end has already obeyed and ended
                self.socket.sendall(block[sent:])
        except OSError as error:
            self._give_up()
            raise Closed(str(error)) from None

    def _give_up(self) -> None:
        """Send no more: after a partial message, the next one could not be parsed."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)


class SupervisorEnd(_End):
    """`send` may block for SEND_TIMEOUT; `receive` never does."""

    def send(self, order: Order, descriptors: tuple[int, ...] = ()) -> None:
        """Send an order with descriptors. Raises Closed if the child takes no more."""
        body = _pickled(order)
        self._send(HEADER.pack(len(body), len(descriptors)) + body, descriptors)

    def receive(self) -> list[Report]:
        """The reports that have arrived since the last call. Raises Closed, BadReport.

        Descriptors that come along are closed by the kernel, as there is no room for them (unix(7)).
        """
        self.socket.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        ended = False
        while len(self._bytes) < REPORT_HEADER.size + MAX_REPORT:
            try:
                data = self.socket.recv(READ)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                ended = True
                break
            self._bytes += data
        reports = list(self._complete())
        if ended and not reports:
            raise Closed("the other end is gone")
        return reports

    def _complete(self) -> Iterator[Report]:
        at = count = 0
        while len(self._bytes) - at >= REPORT_HEADER.size:
            (length,) = REPORT_HEADER.unpack_from(self._bytes, at)
            if length > MAX_REPORT:
                raise BadReport(f"a length of {length} bytes")
            begin = at + REPORT_HEADER.size
            if len(self._bytes) < begin + length:
                break
            at = begin + length
            count += 1
            if count > MAX_REPORTS:
                raise BadReport(f"more than {MAX_REPORTS} at once")
            yield _parsed(bytes(self._bytes[begin:at]))
        del self._bytes[:at]


class ChildEnd(_End):
    """`send` may block for SEND_TIMEOUT; `receive` never does."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._descriptors: list[int] = []

    def send(self, report: Report) -> None:
        """Send a report. Raises Closed if the supervisor takes no more, ValueError if it is longer than MAX_REPORT."""
        text = _text(report)
        if len(text) > MAX_REPORT:
            raise ValueError(f"a report of {len(text)} bytes, more than {MAX_REPORT}")
        self._send(REPORT_HEADER.pack(len(text)) + text)

    def receive(self) -> list[tuple[Order, list[int]]]:
        """What has arrived since the last call, each order with its descriptors. Raises Closed."""
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
        orders = list(self._complete())
        if ended and not orders:
            raise Closed("the other end is gone")
        return orders

    def _complete(self) -> Iterator[tuple[Order, list[int]]]:
        while len(self._bytes) >= HEADER.size:
            length, count = HEADER.unpack_from(self._bytes)
            if len(self._bytes) < HEADER.size + length:
                break
            order = pickle.loads(bytes(self._bytes[HEADER.size : HEADER.size + length]))  # noqa: S301 - see the module
            del self._bytes[: HEADER.size + length]
            descriptors, self._descriptors = self._descriptors[:count], self._descriptors[count:]
            yield order, descriptors


def pair() -> tuple[SupervisorEnd, ChildEnd]:
    """Two connected ends."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return SupervisorEnd(one), ChildEnd(other)


def _text(report: Report) -> bytes:
    if isinstance(report, Ready):
        return json.dumps({"ready": report.version}).encode()
    if isinstance(report, Command):
        return json.dumps({"command": report.text, "number": report.number}).encode()
    return json.dumps({"discovered": discovery.rows(report.found)}).encode()


def _parsed(text: bytes) -> Report:
    """The report in `text`. Raises BadReport; its text quotes nothing of a child's at length."""
    try:
        said = plain_json.parse(text)
        match said:
            case {"ready": int(version)} if len(said) == 1 and type(version) is int and 0 < version <= MAX_VERSION:
                return Ready(version)
            case {"command": str(command), "number": int(number)} if len(said) == 2 and type(number) is int:
                if 0 < number <= MAX_VERSION:
                    return Command(number, command)
            case {"discovered": rows} if len(said) == 1:
                return Discovered(discovery.found(rows))
    except ValueError as error:
        raise BadReport(f"{type(error).__name__}, in {len(text)} bytes") from None
    raise BadReport(f"{len(text)} bytes that are neither")


def _pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def _rights(descriptors: tuple[int, ...]) -> list[tuple[int, int, "array.array[int]"]]:
    """Ancillary data of sendmsg."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
