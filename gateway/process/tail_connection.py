"""Follows the tail of a gateway on this machine: the client of what gateway/process/tail.py describes."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from gateway.process.tail import Wanted
from gateway.process.tail_limits import PACKET
from gateway.system import plain_json, private_socket
from gateway.system.running import SUFFIX, TIMEOUT

LONGEST_LINE: Final = 4096
"""Bytes of a line on the connection to the operator socket."""


class NoTail(OSError):
    """The gateway follows nothing for us; the text says why."""


class TailConnection:
    """A tail that goes on: `sockets` are ready for reading when `read` has something to do.

    In an upgrade `successor` becomes the path of the operator socket of the gateway that has taken over.
    """

    def __init__(self, path: Path, wanted: Wanted) -> None:
        """Begin it at an operator socket. Raises NoTail."""
        self._path = path
        self.successor: Path | None = None
        self._supervised = True
        try:
            self._connection = private_socket.connect(path, TIMEOUT)
        except OSError as error:
            raise NoTail((error.strerror or str(error)).lower()) from None
        try:
            self._packets = self._begin(wanted)
        except BaseException:
            self._connection.close()
            raise
        for sock in self.sockets:
            sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature

    def _begin(self, wanted: Wanted) -> socket.socket:
        try:
            self._connection.sendall(f"tail {wanted.text()}\n".encode())
            answer, descriptors, _, _ = socket.recv_fds(self._connection, LONGEST_LINE, 1)
        except OSError as error:
            raise NoTail((error.strerror or str(error)).lower()) from None
        if len(descriptors) == 1:
            return socket.socket(fileno=descriptors[0])
        for descriptor in descriptors:
            os.close(descriptor)
        why = "it has ended, or is too busy"
        with contextlib.suppress(ValueError, KeyError, TypeError):
            why = str(plain_json.parse(answer)["error"])
        raise NoTail(why)

    @property
    def sockets(self) -> list[socket.socket]:
        """The packets, and the connection to the operator socket while its supervisor lives."""
        return [self._packets, self._connection] if self._supervised else [self._packets]

    def read(self) -> list[dict[str, Any]] | None:
        """The lines of the next packet, an empty list if there is none yet; None: the gateway has ended."""
        self._read_news()
        return next_lines(self._packets)

    def _read_news(self) -> None:
        if not self._supervised:
            return
        try:
            news = self._connection.recv(LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            news = b""
        self._supervised = bool(news)
        for said in objects(news):
            if isinstance(pid := said.get("successor"), int):
                self.successor = self._path.with_name(f"{pid}{SUFFIX}")

    def close(self) -> None:
        """End it."""
        self._packets.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def next_lines(packets: socket.socket) -> list[dict[str, Any]] | None:
    """The lines of the next packet, an empty list if there is none yet; None: there will be no other."""
    try:
        packet = packets.recv(PACKET)
    except BlockingIOError:
        return []
    except OSError:
        return None
    return list(objects(packet)) if packet else None


def objects(lines: bytes) -> Iterator[dict[str, Any]]:
    """The objects of lines in JSON; what a gateway does not write is passed over."""
    for line in lines.splitlines():
        with contextlib.suppress(ValueError):
            said = plain_json.parse(line)
            if isinstance(said, dict):
                yield said
