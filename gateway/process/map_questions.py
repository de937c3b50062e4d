"""What workers ask the process of the programs of maps, and its answers: packets (SOCK_SEQPACKET) of JSON.

The supervisor keeps a pair of sockets open, the door; neither end blocks. A worker makes a connection of its own and
passes the other end through the door, so that both notice when the other one has ended; what it asks meanwhile waits
there for the next process.

A question is [number, [program, argument, ...], key]. An answer is [number, value], where null is no value; or [number,
null, why]: there is no answer. Keys and values are bytes, written as Latin-1.
"""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from gateway.system import plain_json

MAX_KEY: Final = 8190
"""Bytes of a key: of the longest line of a request in Apache (LimitRequestLine)."""
MAX_VALUE: Final = 8190
"""Bytes of a value."""
MAX_PACKET: Final = 64 * 1024
"""A byte takes at most six in JSON, and a command is in a line of a file."""


class Malformed(ValueError):
    """A packet that no process of ours sends."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, with a number that the answer has as well."""

    number: int
    command: tuple[str, ...]
    key: bytes

    def packet(self) -> bytes:
        """As it is sent."""
        return json.dumps([self.number, self.command, self.key.decode("latin-1")]).encode()

    @classmethod
    def read(cls, packet: bytes) -> Self:
        """Read a packet. Raises Malformed."""
        match _read(packet):
            case [int(number), list(command), str(key)] if len(key) <= MAX_KEY and "\n" not in key:
                if command and all(isinstance(word, str) for word in command):
                    return cls(number, tuple(command), _bytes(key))
        raise Malformed("no question")


@dataclass(frozen=True, slots=True)
class Answer:
    """The value of a key; None: it has none; a text: why there is no answer."""

    number: int
    said: bytes | str | None

    def packet(self) -> bytes:
        """As it is sent."""
        if isinstance(self.said, str):
            return json.dumps([self.number, None, self.said]).encode()
        return json.dumps([self.number, self.said.decode("latin-1") if self.said is not None else None]).encode()

    @classmethod
    def read(cls, packet: bytes) -> Self:
        """Read a packet. Raises Malformed."""
        match _read(packet):
            case [int(number), None]:
                return cls(number, None)
            case [int(number), None, str(why)]:
                return cls(number, why)
            case [int(number), str(value)] if len(value) <= MAX_VALUE:
                return cls(number, _bytes(value))
        raise Malformed("no answer")


def connect(door: socket.socket) -> socket.socket:
    """Make a connection through the door. Raises OSError: the process does not take it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        ours.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        socket.send_fds(door, [b"1"], [theirs.fileno()])
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours


def accept(door: socket.socket) -> socket.socket:
    """Take a connection from the door. Raises OSError: there is none."""
    _, descriptors, _, _ = socket.recv_fds(door, 1, 1)
    for descriptor in descriptors[1:]:
        os.close(descriptor)
    if not descriptors:
        raise ConnectionError("a packet without a connection")
    made = socket.socket(fileno=descriptors[0])
    made.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    return made


def packets(connection: socket.socket) -> Iterator[bytes]:
    """The packets that have come at a connection that does not block, until it is closed here.

    Raises ConnectionError: its other end is gone.
    """
    while connection.fileno() >= 0:
        try:
            packet = connection.recv(MAX_PACKET)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            packet = b""
        if not packet:
            raise ConnectionError("the other process has ended")
        yield packet


def _read(packet: bytes) -> object:
    try:
        return plain_json.parse(packet)
    except ValueError:
        raise Malformed("no JSON") from None


def _bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise Malformed("no bytes") from None
