"""The listener for `gateway status` in the heartbeat process, on a Unix socket that only its owner may open."""

import contextlib
import json
import logging
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.heartbeat import election
from gateway.heartbeat.node import WITNESS, Node
from gateway.heartbeat.ownership import State
from gateway.reports import AddressReport, EventReport, FitnessReport, HeartbeatReport, LinkReport, NodeReport
from gateway.system import private_socket

if TYPE_CHECKING:
    from gateway.heartbeat.process import Heartbeat

log = logging.getLogger("gateway.heartbeat")

MAX_REQUEST: Final = 4096
MAX_CLIENTS: Final = 8


class Listener:
    """Responds to a line with a command in JSON, and closes. The selector reads clients: none can delay a beat."""

    def __init__(self, path: Path, selector: selectors.BaseSelector, obey: Callable[[str], dict[str, Any]]) -> None:
        self._path = path
        self._selector = selector
        self._obey = obey
        self._clients: dict[socket.socket, bytes] = {}
        self._socket = private_socket.listen(path, MAX_CLIENTS)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Close everything."""
        for client in [*self._clients]:
            self._drop(client)
        self._selector.unregister(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        client = private_socket.accept(self._socket)
        if client is None:
            return
        while len(self._clients) >= MAX_CLIENTS:
            self._drop(next(iter(self._clients)))
        self._clients[client] = b""
        self._selector.register(client, selectors.EVENT_READ, lambda: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        try:
            data = client.recv(MAX_REQUEST)
        except OSError:
            data = b""
        line = self._clients[client] = self._clients[client] + data
        if data and b"\n" not in line and len(line) < MAX_REQUEST:
            return
        if b"\n" in line:
            command = line.partition(b"\n")[0].decode(errors="replace").strip()
            with contextlib.suppress(OSError):
                client.send(self._answer(command))
        self._drop(client)

    def _answer(self, command: str) -> bytes:
        try:
            return json.dumps(self._obey(command)).encode()
        except Exception:  # a query must never cost the address
            log.exception("%s cannot be served", command)
            return json.dumps({"error": "internal error of the heartbeat; see its log"}).encode()

    def _drop(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        del self._clients[client]
        client.close()


def report(heartbeat: "Heartbeat", now: float) -> HeartbeatReport:
    """The data of `gateway status`. `now`: monotonic seconds."""
    settings = heartbeat.node.settings
    wall = time.time()
    return HeartbeatReport(
        node=settings.node,
        admin_state=heartbeat.node.admin_state.name.lower(),
        mode="may split" if settings.may_split else "witness" if settings.witness else "majority",
        votes_needed=settings.quorum,
        lease_enforced_by=heartbeat.fence,
        doubts=tuple(heartbeat.doubts),
        nodes=tuple(_nodes(heartbeat.node, now)),
        addresses=tuple(_addresses(heartbeat.node, now)),
        **heartbeat.counters.handed_over(),
        health=FitnessReport(
            measured=heartbeat.health.value,
            believed=heartbeat.damper.value,
            reason=heartbeat.health.reason,
            falls=heartbeat.damper.total_falls,
            hold=heartbeat.damper.hold,
        ),
        history=tuple(
            EventReport(at=at, ago=round(wall - at, 1), about=about, what=what) for at, about, what in heartbeat.history
        ),
        refused_lately=tuple(heartbeat.refused.report(now)),
    )


def _nodes(node: Node, now: float) -> Iterator[NodeReport]:
    settings = node.settings
    yield NodeReport(name=settings.node, state=node.admin_state.name.lower(), alive=True, own=True, links={})
    for peer in node.membership.peers.values():
        beat, witness = peer.beat, peer.name == WITNESS
        yield NodeReport(
            name=peer.name,
            state=beat.admin_state.name.lower() if beat is not None and not witness else "",
            alive=peer.alive,
            silent=round(now - peer.heard, 3) if beat is not None else None,
            same_settings=beat is None or witness or beat.digest == settings.digest,
            links={
                name: LinkReport(
                    alive=now - link.heard < settings.lease, loss=round(link.loss, 4), delay=round(link.delay, 6)
                )
                for name, link in peer.links.items()
            },
        )


def _addresses(node: Node, now: float) -> Iterator[AddressReport]:
    for address, holding in node.holdings.items():
        owner = election.owner(node.runners(holding))
        own = holding.state is State.OWNER
        yield AddressReport(
            address=address,
            state=holding.state.value,
            owner=node.settings.node if own else owner.node if owner is not None else None,
            reason=holding.reason,
            fitness=holding.fitness,
            lease=round(holding.until - now, 3) if own else None,
            leaving=holding.leaving,
        )
