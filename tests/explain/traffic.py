"""The data path in this process, with real sockets at both ends: what becomes of a request when it is sent, not told.

Servers answer each request with their name, once they have all of it, and keep the head that they got.
"""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gateway.board import Board
from gateway.config.loader import Loaded
from gateway.config.snapshot import Snapshot
from gateway.explain.asked import Asked
from gateway.proxy.listener import Listener
from gateway.proxy.loop import EventLoop
from gateway.proxy.plan import Plan
from gateway.proxy.transaction import live
from gateway.proxy.worker_context import WorkerContext
from gateway.secrets.vault import Secrets

TURNS = 400
"""How often all sockets are polled before an answer counts as missing; the later ones wait for 5 ms."""

FIELDS = "Server: raw\r\nX-Powered-By: x\r\nX-A: one\r\nx-a: two\r\nX-Request-ID: of-the-server\r\nCache-Control: no-store\r\n"
"""What every server answers beside its length."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What has become of a request: the answer that its client got, and which server got what head, if one did."""

    head: str
    body: bytes
    server: str | None
    asked: str | None
    request_id: str
    logged: str
    """What the access log, in the site's format, says of it."""


class _Peer:
    """A connection to a server."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.sock, self.name = sock, name
        self.got = b""
        sock.settimeout(0)


class Servers:
    """Sockets of servers, by name, that stay; connections to them do not."""

    def __init__(self, names: str) -> None:
        self.sockets = {name: socket.create_server(("127.0.0.1", 0), backlog=64) for name in names}
        for sock in self.sockets.values():
            sock.settimeout(0)
        self.peers: list[_Peer] = []
        self.heads: list[tuple[str, str]] = []
        """(name, head) of the requests that have come."""

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.sockets[name].getsockname()[1]}"

    def pump(self) -> None:
        """Accept, read and answer what there is."""
        for name, sock in self.sockets.items():
            try:
                self.peers.append(_Peer(sock.accept()[0], name))
            except BlockingIOError:
                continue
        for peer in [*self.peers]:
            try:
                data = peer.sock.recv(1 << 17)
            except BlockingIOError:
                continue
            except ConnectionError:
                data = b""
            if not data:
                peer.sock.close()
                self.peers.remove(peer)
                continue
            peer.got += data
            self._answer(peer)

    def _answer(self, peer: _Peer) -> None:
        head, end, body = peer.got.partition(b"\r\n\r\n")
        if not end:
            return
        text = (head + end).decode("latin-1")
        lower = text.lower()
        if "\r\ntransfer-encoding: chunked\r\n" in lower:
            complete = body.endswith(b"0\r\n\r\n")
        else:
            _, found, rest = lower.partition("\r\ncontent-length: ")
            complete = len(body) == (int(rest.partition("\r\n")[0]) if found else 0)
        if complete:
            peer.got = b""
            self.heads.append((peer.name, text))
            answer = f"HTTP/1.1 200 OK\r\n{FIELDS}Content-Length: 1\r\n\r\n"
            peer.sock.sendall(answer.encode() + (b"" if text.startswith("HEAD ") else peer.name.encode()))

    def forget(self) -> None:
        """Close what is open."""
        for peer in self.peers:
            peer.sock.close()
        self.peers.clear()
        self.heads.clear()

    def close(self) -> None:
        self.forget()
        for sock in self.sockets.values():
            sock.close()


class Traffic:
    """A worker's data plane for a loaded site, with these sockets (by port) for entrances. A context manager.

    arrange: called with the board and the snapshot's rows of servers before the first request. time: what rules see.
    """

    def __init__(
        self,
        loaded: Loaded,
        entrances: dict[int, socket.socket],
        servers: Servers,
        arrange: Callable[[Board, Mapping[tuple[str, str], int]], None],
        time: float,
    ) -> None:
        snapshot = Snapshot.first(loaded)
        self.servers = servers
        self._loop = EventLoop()
        self._poller = self._loop.poller
        self.board = Board()
        self._context = WorkerContext(self._poller, self.board, 0)
        self._plan = Plan(self._context, writes=True)
        self._log = os.memfd_create("access log")
        self._logged = 0
        self._plan.apply(snapshot, Secrets.read(loaded), 1, self._log)
        self._context.view.clock = lambda: time
        self._slots = snapshot.slots
        arrange(self.board, snapshot.slots)
        self._entrances = entrances
        self._listeners = [
            Listener(self._context, frontend, entrances[listen.port or 0])
            for listen, frontend in self._plan.frontends.items()
        ]
        self._clients: dict[tuple[str, int], socket.socket] = {}
        self._before = live()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        for sock in self._clients.values():
            sock.close()
        for _turn in range(3):
            self._poller.wait(0)
        for listener in self._listeners:
            listener.stop()
        in_flight = {key: count for key, slot in self._slots.items() if (count := self.board.in_flight(slot))}
        if self._context.log is not None:
            self._context.log.close()
        os.close(self._log)
        self._poller.stop()
        self._loop.close()
        self.servers.forget()
        if kind is None:
            assert live() == self._before
            assert in_flight == {}

    def send(self, asked: Asked, body: bytes, *, clear: bool) -> Fate:
        """Send a request from its client's address and read the answer. clear: on a connection of its own.

        Clients keep their connections, so that whatever a request leaves behind would be met by the next one.
        """
        port = asked.port
        if clear and (old := self._clients.pop((asked.client, port), None)) is not None:
            old.close()
        sock = self._clients.get((asked.client, port))
        if sock is None:
            sock = socket.socket()
            sock.bind((asked.client, 0))
            sock.connect(self._entrances[port].getsockname())
            sock.settimeout(0)
            self._clients[asked.client, port] = sock
        self.servers.heads.clear()
        sock.sendall(asked.head + body)
        head, content = self._read(sock, bodiless=asked.method == "HEAD")
        lower = head.lower()
        if "\r\nconnection: close\r\n" in lower:
            self._clients.pop((asked.client, port)).close()
        assert len(self.servers.heads) < 2
        server, got = self.servers.heads[0] if self.servers.heads else (None, None)
        request_id = lower.partition("\r\nx-request-id: ")[2].partition("\r\n")[0]
        return Fate(head, content, server, got, request_id, self._new_lines())

    def _new_lines(self) -> str:
        """What the access log says since the last time."""
        if self._context.log is not None:
            self._context.log.flush()
        lines = os.pread(self._log, 1 << 16, self._logged)
        self._logged += len(lines)
        return lines.decode()

    def _read(self, sock: socket.socket, *, bodiless: bool) -> tuple[str, bytes]:
        got = b""
        for turn in range(TURNS):
            self._poller.wait(0 if turn < 20 else 0.005)
            self.servers.pump()
            try:
                data = sock.recv(1 << 17)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                data = b""
            got += data
            head, end, body = got.partition(b"\r\n\r\n")
            if end:
                text = (head + end).decode("latin-1")
                _, found, rest = text.lower().partition("\r\ncontent-length: ")
                # What is refused for its head has a body whatever it asked for, and then the connection ends.
                ends = bodiless and "\r\nconnection: close\r\n" not in text.lower()
                length = int(rest.partition("\r\n")[0]) if found and not ends else 0
                if len(body) >= length or not data:
                    return text, body
            if not data:
                break
        raise AssertionError(f"no answer: {got!r}")
