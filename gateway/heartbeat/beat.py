"""The message of the heartbeat: its sender, what it heard, the addresses it requests and the nodes it voted for.

There is one kind of message, authenticated as a whole. Integers are big-endian; a name is a length byte and its bytes.

    4  magic "GWHB"           1  version            1  flags (1: please answer at once)
    8  identity of the cluster, of its key and its name
    8  incarnation            8  sequence           4  lease, ms         4  interval, ms     1  state of the node
    name of the sender        0-32 bytes: its site's figure for what both must agree on, as a name
    1  echoes:  name, 8 incarnation, 8 sequence, 4 time since it was heard, µs
    1  claims:  address, 1 claim, 1 fitness
    1  votes:   address, name, 8 incarnation, 8 sequence
    16 HMAC-SHA256, truncated (RFC 2104 section 5), over all that stands before

An address is a length byte (4 or 16) and the address.
"""

import hmac
import socket
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple, TypeVar

VERSION: Final = 2
MAX_BYTES: Final = 8192
MAX_NAME: Final = 64
MAC_BYTES: Final = 16
MIN_KEY_BYTES: Final = 16
MAGIC: Final = b"GWHB"
_HEAD: Final = struct.Struct("!4sBB8sQQIIB")
_ECHO: Final = struct.Struct("!QQI")
_VOTE: Final = struct.Struct("!QQ")
_PURPOSE: Final = b"gateway heartbeat 1"
_IDENTITY: Final = b"gateway cluster identity 1\0"
_IDENTITY_BYTES: Final = 8
_ANSWER: Final = 1

T = TypeVar("T")


class BadBeat(Exception):
    """Bytes that are not a beat of this cluster; the message is a short reason for counters."""


class AdminState(IntEnum):
    """The node's state as set by the operator."""

    JOIN = 0
    STANDBY = 1
    """Give every address away, take none."""
    DRAIN = 2
    """Give the addresses away one by one, each when another node can take it; take none."""


class Stake(IntEnum):
    """The relation of a node to an address."""

    IDLE = 0
    ASKING = 1
    OWNING = 2


class Echo(NamedTuple):
    """The last beat heard from `node`, `held` seconds ago."""

    node: str
    incarnation: int
    sequence: int
    held: float


class Claim(NamedTuple):
    """The sender's relation to `address`; `fitness` is from 0 (cannot own it) to 255."""

    address: str
    stake: Stake
    fitness: int


class Vote(NamedTuple):
    """The sender votes for `candidate` as owner of `address`, in response to the beat with that sequence number.

    A vote for the sender itself has the number of the beat since which it has had the witness's vote, if it has it.
    """

    address: str
    candidate: str
    incarnation: int
    sequence: int


class Beat(NamedTuple):
    """One message; durations in seconds."""

    node: str
    incarnation: int
    """A random number of the sender's process: a new one means that it has restarted and lost its state."""
    sequence: int
    lease: float
    interval: float
    admin_state: AdminState = AdminState.JOIN
    answer: bool = False
    digest: bytes = b""
    echoes: tuple[Echo, ...] = ()
    claims: tuple[Claim, ...] = ()
    votes: tuple[Vote, ...] = ()
    cluster: bytes = b""
    """Identity of the cluster; empty: that of the codec."""


class Codec:
    """Encodes and decodes beats with the cluster's key (any bytes, at least MIN_KEY_BYTES).

    `cluster` is its name; it separates clusters with the same key. With None, beats of every cluster with this key are
    accepted, and name their cluster.
    """

    def __init__(self, key: bytes, cluster: str | None = "") -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"the key is too short: at least {MIN_KEY_BYTES} bytes")
        # A derived key: the same file may authenticate other messages, and none can be mistaken for another.
        self._mac = hmac.new(hmac.digest(key, _PURPOSE, "sha256"), digestmod="sha256")
        self._serves_all = cluster is None
        self._cluster = hmac.digest(key, _IDENTITY + (cluster or "").encode(), "sha256")[:_IDENTITY_BYTES]

    def encode(self, beat: Beat) -> bytes:
        """Return the message, at most MAX_BYTES. Raises ValueError if it is larger."""
        body = bytearray(
            _HEAD.pack(
                MAGIC,
                VERSION,
                _ANSWER if beat.answer else 0,
                beat.cluster or self._cluster,
                beat.incarnation,
                beat.sequence,
                round(beat.lease * 1000),
                round(beat.interval * 1000),
                beat.admin_state,
            )
        )
        body += _name(beat.node)
        body += bytes((len(beat.digest),)) + beat.digest
        body.append(len(beat.echoes))
        for echo in beat.echoes:
            held = min(round(echo.held * 1e6), 0xFFFFFFFF)
            body += _name(echo.node) + _ECHO.pack(echo.incarnation, echo.sequence, held)
        body.append(len(beat.claims))
        for claim in beat.claims:
            body += _address(claim.address) + bytes((claim.stake, claim.fitness))
        body.append(len(beat.votes))
        for vote in beat.votes:
            body += _address(vote.address) + _name(vote.candidate) + _VOTE.pack(vote.incarnation, vote.sequence)
        if len(body) > MAX_BYTES - MAC_BYTES:
            raise ValueError(f"a beat of {len(body)} bytes is too large")
        return bytes(body) + self._sign(body)

    def decode(self, data: bytes) -> Beat:
        """Decode a message. Raises BadBeat: it is not authentic or malformed."""
        if not _HEAD.size + MAC_BYTES <= len(data) <= MAX_BYTES:
            raise BadBeat("size")
        if data[: len(MAGIC)] != MAGIC:
            raise BadBeat("magic")
        if data[len(MAGIC)] != VERSION:
            raise BadBeat("version")
        if not hmac.compare_digest(self._sign(data[:-MAC_BYTES]), data[-MAC_BYTES:]):
            raise BadBeat("signature")
        reader = _Reader(data[:-MAC_BYTES])
        try:
            beat = _read(reader)
        except (ValueError, IndexError, struct.error, OSError):
            raise BadBeat("format") from None
        if reader.left:
            raise BadBeat("format")
        if self._serves_all:
            return beat
        if beat.cluster != self._cluster:
            raise BadBeat("another cluster")
        return beat._replace(cluster=b"")

    def _sign(self, body: bytes | bytearray) -> bytes:
        mac = self._mac.copy()
        mac.update(body)
        return mac.digest()[:MAC_BYTES]


def _read(reader: "_Reader") -> Beat:
    _, _, flags, cluster, incarnation, sequence, lease, interval, state = _HEAD.unpack_from(reader.take(_HEAD.size))
    return Beat(
        node=reader.name(),
        incarnation=incarnation,
        sequence=sequence,
        lease=lease / 1000,
        interval=interval / 1000,
        admin_state=AdminState(state),
        answer=bool(flags & _ANSWER),
        digest=reader.block(32),
        echoes=reader.many(lambda: _echo(reader.name(), *reader.unpack(_ECHO))),
        claims=reader.many(lambda: Claim(reader.address(), Stake(reader.byte()), reader.byte())),
        votes=reader.many(lambda: Vote(reader.address(), reader.name(), *reader.unpack(_VOTE))),
        cluster=cluster,
    )


def _echo(node: str, incarnation: int, sequence: int, held: int) -> Echo:
    return Echo(node, incarnation, sequence, held / 1e6)


def _name(name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) <= MAX_NAME:
        raise ValueError("a name has 1 to 64 bytes")
    return bytes((len(encoded),)) + encoded


def _address(address: str) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    return bytes((len(packed),)) + packed


class _Reader:
    """Parses a message from the left; raises ValueError, IndexError or struct.error at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size))

    def byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def block(self, limit: int) -> bytes:
        length = self.byte()
        if length > min(limit, self.left):
            raise ValueError("too long")
        return self.take(length)

    def name(self) -> str:
        name = self.block(MAX_NAME).decode()
        if not name.isprintable() or not name:
            raise ValueError("not a name")
        return name

    def address(self) -> str:
        packed = self.block(16)
        return socket.inet_ntop({4: socket.AF_INET, 16: socket.AF_INET6}.get(len(packed), 0), packed)

    def many(self, item: Callable[[], T]) -> tuple[T, ...]:
        return tuple(item() for _ in range(self.byte()))
