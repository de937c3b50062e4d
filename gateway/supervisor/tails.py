"""The tails that operators follow: which there are, and the end of each that the workers write to.

The supervisor makes the socket and passes it on, and reads nothing of it: what clients have sent is in there.
"""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.process.channel import Follow, Order, Unfollow
from gateway.process.tail import Wanted
from gateway.process.tail_limits import PACKET

MOST: Final = 8
"""Tails at once: a worker has a bit for each."""
MOST_OF_OWNER: Final = 4
"""Of these, tails of one process that asks for others: some are left for this machine's operators."""

Send: TypeAlias = Callable[[Order, tuple[int, ...]], None]
"""Sends an order with descriptors to every process that carries traffic."""


class NoTail(Exception):
    """There cannot be another one; the text says why."""


@dataclass(frozen=True, slots=True)
class _Tail:
    wanted: Wanted
    writing: socket.socket
    owner: object


class Tails:
    """All of them, by number."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._tails: dict[int, _Tail] = {}

    def open(self, wanted: Wanted, owner: object = None) -> tuple[int, socket.socket]:
        """Begin another one: its number, and the end to read, which the caller closes. Raises NoTail.

        `owner`: the process that asks for it in the place of an operator elsewhere.
        """
        if owner is not None and sum(tail.owner is owner for tail in self._tails.values()) >= MOST_OF_OWNER:
            raise NoTail(f"{MOST_OF_OWNER} tails are followed over HTTP already")
        number = next((number for number in range(MOST) if number not in self._tails), None)
        if number is None:
            raise NoTail(f"{MOST} tails are followed already")
        try:
            reading, writing = pair_of_packets()
        except OSError as error:
            raise NoTail((error.strerror or str(error)).lower()) from None
        self._tails[number] = tail = _Tail(wanted, writing, owner)
        self._send(*_order(number, tail))
        return number, reading

    def close(self, number: int) -> None:
        """Its reader has gone."""
        tail = self._tails.pop(number, None)
        if tail is not None:
            tail.writing.close()
            self._send(Unfollow(number), ())

    def close_of(self, owner: object, number: int | None = None) -> None:
        """Close one that belongs to a process, or all of them; another's is left alone."""
        for each in [each for each, tail in self._tails.items() if tail.owner is owner and number in {None, each}]:
            self.close(each)

    def orders(self) -> Iterator[tuple[Order, tuple[int, ...]]]:
        """What a process that starts is told."""
        for number, tail in self._tails.items():
            yield _order(number, tail)

    def forget(self) -> None:
        """Close all in a process that was forked."""
        for tail in self._tails.values():
            tail.writing.close()
        self._tails.clear()


def pair_of_packets() -> tuple[socket.socket, socket.socket]:
    """Return the ends to read and to write of a socket of packets for lines from workers. Raises OSError."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PACKET)  # at most what the kernel's wmem_max allows
    writing.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    return reading, writing


def _order(number: int, tail: _Tail) -> tuple[Order, tuple[int, ...]]:
    return Follow(number, tail.wanted), (tail.writing.fileno(),)
