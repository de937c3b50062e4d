"""Gateways of a cluster send each other hints about servers to check: a change that one finds, all check at once."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable

from gateway.config.snapshot import ServerKey, Snapshot
from gateway.control.datagrams import Datagrams
from gateway.control.news import MAGIC
from gateway.health.hint import BadHint, Codec, Hint, Recent
from gateway.load.refusals import Refusals

_log = logging.getLogger("gateway.control")

Place = tuple[str, int]


class Hints(asyncio.DatagramProtocol):
    """Sends hints to the other nodes of the newest snapshot, and passes theirs to `hurry`."""

    def __init__(
        self, hurry: Callable[[ServerKey], None], news: Callable[[bytes, str], None] = lambda _data, _source: None
    ) -> None:
        self._hurry = hurry
        self._news = news
        self._others: frozenset[Place] = frozenset()
        self._codec: Codec | None = None
        self._recent = Recent()
        self._addresses: dict[ServerKey, str] = {}
        self._datagrams: Datagrams | None = None
        self._refusals = Refusals("check hint", _log)
        self.refused = self._refusals.counts

    async def apply(self, snapshot: Snapshot, sock: socket.socket | None) -> None:
        """Follow a snapshot; `sock`, bound to `cluster.listen`, replaces the one before. Raises OSError."""
        cluster = snapshot.site.cluster
        listens = cluster is not None and cluster.listen is not None
        if cluster is not None and cluster.listen is not None:
            own, port = cluster.nodes[snapshot.site.node], cluster.listen
            self._others = frozenset((ip, port) for ip in cluster.nodes.values() if ip != own)
            self._codec = Codec(snapshot.files[cluster.key_file].strip())
        self._addresses = {
            (backend.name, server.name): str(server.address)
            for backend in snapshot.site.backends.values()
            for server in backend.servers
        }
        if sock is not None or not listens:
            self.close()
        if sock is not None:
            self._datagrams = Datagrams(sock, self)

    def close(self) -> None:
        """Stop sending and receiving."""
        if self._datagrams is not None:
            self._datagrams.close()
        self._datagrams = None

    def send(self, key: ServerKey) -> None:
        """Tell the others to check a server. If the hint is lost, their next regular check replaces it."""
        if self._datagrams is None or self._codec is None or key not in self._addresses:
            return
        self.broadcast(self._codec.encode(Hint(*key, self._addresses[key]), time.time_ns()))

    def broadcast(self, message: bytes) -> None:
        """Send a message to the other nodes."""
        if self._datagrams is not None:
            for place in self._others:
                self._datagrams.sendto(message, place)

    def datagram_received(self, data: bytes, addr: Place) -> None:
        """Process one datagram from any sender."""
        if self._codec is None:
            return
        if data.startswith(MAGIC):
            self._news(data, addr[0])
            return
        try:
            hint = self._codec.decode(data, time.time_ns())
            self._recent.take(data, time.monotonic())
        except BadHint as error:
            self._refusals.note(str(error), str(error), addr[0])
            return
        key = hint.backend, hint.server
        if self._addresses.get(key) == hint.address:  # the same server in its site file
            self._hurry(key)

    def error_received(self, exc: Exception) -> None:
        """Ignored: the heartbeat handles absent nodes."""
