"""Gateways of a cluster tell each other which servers are worth a look: what one's check finds, all look at."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable

from gateway.config.snapshot import ServerKey, Snapshot
from gateway.health.hint import BadHint, Codec, Hint
from gateway.load.refusals import Refusals

_log = logging.getLogger("gateway.control")

Place = tuple[str, int]


class Hints(asyncio.DatagramProtocol):
    """Sends hints to the other nodes of the newest snapshot, and passes theirs to `hurry`."""

    def __init__(self, hurry: Callable[[ServerKey], None]) -> None:
        self._hurry = hurry
        self._place: Place | None = None
        self._others: frozenset[Place] = frozenset()
        self._codec: Codec | None = None
        self._addresses: dict[ServerKey, str] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self._refusals = Refusals("check hint", _log)
        self.refused = self._refusals.counts

    async def apply(self, snapshot: Snapshot) -> None:
        """Follow a snapshot."""
        cluster = snapshot.site.cluster
        place = None
        if cluster is not None and cluster.listen is not None:
            port = cluster.listen
            place = cluster.nodes[snapshot.site.node], port
            self._others = frozenset((ip, port) for ip in cluster.nodes.values()) - {place}
            self._codec = Codec(snapshot.files[cluster.key_file].strip())
        self._addresses = {
            (backend.name, server.name): str(server.address)
            for backend in snapshot.site.backends.values()
            for server in backend.servers
        }
        if place != self._place:
            self.close()
            self._place = place
            if place is not None:
                await self._open(place)

    def close(self) -> None:
        """Neither send nor hear any more."""
        if self._transport is not None:
            self._transport.close()
        self._transport = None

    def send(self, key: ServerKey) -> None:
        """Tell the others to look at a server. One that is lost is made up for by their next check."""
        if self._transport is None or self._codec is None or key not in self._addresses:
            return
        message = self._codec.encode(Hint(*key, self._addresses[key]), time.time_ns())
        for place in self._others:
            self._transport.sendto(message, place)

    def datagram_received(self, data: bytes, addr: Place) -> None:
        """Take one datagram from anywhere."""
        if self._codec is None:
            return
        try:
            hint = self._codec.decode(data, time.time_ns())
        except BadHint as error:
            self._refusals.note(str(error), str(error), addr[0])
            return
        key = hint.backend, hint.server
        if self._addresses.get(key) == hint.address:  # the same server in its site file
            self._hurry(key)

    def error_received(self, exc: Exception) -> None:
        """Nothing: a node that is away is the heartbeat's matter."""

    async def _open(self, place: Place) -> None:
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            # An upgrade's two controls overlap; nobody but our own user can share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(place)
        except OSError as error:
            sock.close()
            self._place = None  # tried again with the next snapshot
            _log.warning("check results are not shared: cannot listen on %s:%d: %s", *place, error.strerror)
            return
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)
