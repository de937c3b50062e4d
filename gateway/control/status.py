"""The listener for commands in the control process, on a Unix socket that only its owner may open.

`gateway status` gets JSON about every server. `gateway explain --live` gets the board itself, as a descriptor, and the
meaning of its rows in JSON: it sees the same data as workers.
"""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway import __version__
from gateway.board import Board
from gateway.config import discovery
from gateway.config.snapshot import Snapshot
from gateway.system import private_socket

NAME: Final = "control.sock"
BOARD: Final = b"board\n"
STATUS: Final = b"status\n"
TIMEOUT: Final = 5.0
"""Seconds for a whole connection."""
MAX_CLIENTS: Final = 8

_log = logging.getLogger("gateway.control")


def listen(directory: Path, *, takes_over: bool) -> socket.socket | None:
    """The socket in `directory`; None, and a log line, if it cannot be opened.

    `takes_over`: the process that currently listens there is about to end.
    """
    path = directory / NAME
    try:
        return private_socket.listen_alone(path, MAX_CLIENTS, takes_over=takes_over)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        _log.warning(
            "`gateway status` and `explain --live` will not work for this gateway: %s: %s; see admin.sockets",
            path,
            reason,
        )
        return None


class Status:
    """Answers at a listening socket, in the running event loop, until closed."""

    def __init__(self, sock: socket.socket, board: Board, servers: Callable[[], Mapping[str, Any]]) -> None:
        self._socket = sock
        self._board = board
        self._servers = servers  # their current data, for JSON
        self._snapshot: Snapshot | None = None
        self._clients: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(sock, self._accept)

    def apply(self, snapshot: Snapshot) -> None:
        """Report on a snapshot from now on."""
        self._snapshot = snapshot

    def close(self) -> None:
        """Stop answering."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        for task in self._clients:
            task.cancel()

    def _accept(self) -> None:
        client = private_socket.accept(self._socket)
        if client is None:
            return
        if len(self._clients) >= MAX_CLIENTS or self._snapshot is None:
            client.close()
            return
        task = asyncio.create_task(self._serve(client, self._snapshot))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, client: socket.socket, snapshot: Snapshot) -> None:
        loop = asyncio.get_running_loop()
        with client, contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                command = await loop.sock_recv(client, len(STATUS))
                if command == STATUS:
                    await loop.sock_sendall(client, json.dumps(self._servers()).encode())
                elif command == BOARD:
                    answer = json.dumps(describe(snapshot)).encode()
                    sent = socket.send_fds(client, [answer], [self._board.fd])
                    await loop.sock_sendall(client, answer[sent:])


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """The meaning of the board's rows, and other data that is not in the site file."""
    written = {
        (backend.name, server.name): str(server.address)
        for backend in snapshot.site.backends.values()
        for server in backend.servers
    }
    return {
        "program": __version__,
        "site": str(snapshot.path),
        "version": snapshot.version,
        "digest": snapshot.digest,
        "servers": [[*key, written[key], snapshot.resolved[key], slot] for key, slot in snapshot.slots.items()],
        "found": discovery.rows(snapshot.found),
        "weights": {target: each.weight for target, each in snapshot.overrides.of.items() if each.weight is not None},
    }
