"""A UDP socket in an event loop, which leaves the socket's options as the supervisor has set them.

uvloop's own endpoint sets SO_REUSEADDR on a socket that it is given (uv_udp_open of libuv), with which a process of any
user can bind the same port and receive what is sent to it.
"""

import asyncio
import socket
from typing import Final

LONGEST: Final = 65_536
"""Bytes of a datagram."""
TURN: Final = 64
"""Datagrams read before others of the loop have their turn."""


class Datagrams:
    """Reads in the running loop, and hands each datagram to `protocol`, until closed; it owns the socket."""

    def __init__(self, sock: socket.socket, protocol: asyncio.DatagramProtocol) -> None:
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._socket = sock
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._read)

    def _read(self) -> None:
        for _ in range(TURN):
            try:
                data, source = self._socket.recvfrom(LONGEST)
            except BlockingIOError:
                return
            except OSError as error:  # such as ECONNREFUSED for one that was sent (udp(7))
                self._protocol.error_received(error)
                return
            self._protocol.datagram_received(data, source)
            if self._socket.fileno() < 0:
                return

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        """Send a datagram; if the buffer is full, it is lost, as it could be on its way."""
        try:
            self._socket.sendto(data, address)
        except BlockingIOError:
            pass
        except OSError as error:
            self._protocol.error_received(error)

    def close(self) -> None:
        """Read no more."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
