"""Answers commands of operators on this machine: what runs here, reload, upgrade.

Only the account of the gateway and root can connect. A conversation is one line, one JSON object, and the end; the
answer to `reload` and `upgrade` comes when their outcome is known. After `tail` the connection stays open for as long
as the operator follows what it began; gateway/process/tail.py has the whole of it.
"""

import contextlib
import json
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway import __version__
from gateway.config.model import Site
from gateway.process.tail import Wanted
from gateway.process.tail_limits import MAX_WANTED
from gateway.supervisor.tails import NoTail, Tails
from gateway.system import private_socket, running

MOST: Final = 16
"""Clients at once."""
LINE: Final = MAX_WANTED + 64
"""Bytes of a command."""
ASKING: Final = 2.0
"""Seconds that a client has for its line."""

log = logging.getLogger(__name__)

Orders = Mapping[str, Callable[[], dict[str, Any] | None]]
"""What to do at a command: the answer, or None if `settle` gives it later."""
Settings = Mapping[str, Callable[[str], dict[str, Any]]]
"""The same for commands with an argument, which are answered at once."""


@dataclass(eq=False, slots=True)
class Client:
    """A connection: `said` is what came so far, `waits` the command whose outcome is due, `tail` what it follows."""

    sock: socket.socket
    deadline: float
    said: bytearray = field(default_factory=bytearray)
    waits: str = ""
    tail: int | None = None

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self.sock.fileno()


@dataclass(eq=False, slots=True)
class Remote:
    """An operator whose command came over the admin listener; `send` brings the answer there."""

    send: Callable[[Mapping[str, Any]], None]
    waits: str = ""


class OperatorSocket:
    """The supervisor's end, in its loop. Nothing here waits for a client."""

    def __init__(self, selector: selectors.BaseSelector, orders: Orders, settings: Settings, tails: Tails) -> None:
        self._selector = selector
        self._orders = orders
        self._settings = settings
        self._tails = tails
        self._clients: set[Client] = set()
        self._remote: set[Remote] = set()
        self._socket: socket.socket | None = None
        self._path = Path()
        try:
            self._socket, self._path = running.listen()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            log.warning("commands such as `gateway status` cannot find this gateway: %s: %s", running.place(), reason)
            return
        selector.register(self._socket, selectors.EVENT_READ, self)

    @property
    def deadline(self) -> float:
        """When `keep_time` has something to do next, time.monotonic(); infinite if never."""
        return min((client.deadline for client in self._clients), default=float("inf"))

    def accept(self) -> None:
        """Take the clients that wait."""
        assert self._socket is not None  # noqa: S101 - only then the selector tells of it
        sock = private_socket.accept(self._socket)
        if sock is None:
            return
        if len(self._clients) >= MOST:
            sock.close()
            return
        client = Client(sock, time.monotonic() + ASKING)
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ, client)

    def hear(self, client: Client) -> None:
        """Read from a client; carry out its command when the line is complete."""
        try:
            part = client.sock.recv(LINE)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        client.said += part
        if not part or client.waits or len(client.said) > LINE:
            self._drop(client)
        elif client.said.endswith(b"\n"):
            self._do(client, client.said.decode("ascii", "replace").strip())

    def carry_out(self, command: str, send: Callable[[Mapping[str, Any]], None]) -> None:
        """Carry out a command that came over the admin listener; `send` is called with the answer, now or later."""
        remote = Remote(send)
        if len(self._remote) >= MOST:
            self._answer(remote, {"error": "too many commands are under way: try again later"})
            return
        self._remote.add(remote)
        self._do(remote, command)

    def _do(self, client: Client | Remote, command: str) -> None:
        word, _, argument = command.partition(" ")
        if argument and word == "tail" and isinstance(client, Client):
            self._follow(client, argument)
            return
        if argument and (setting := self._settings.get(word)) is not None:
            self._answer(client, setting(argument))
            return
        order = self._orders.get(command)
        if order is None:
            self._answer(client, {"error": f"this gateway does not know the command {command!r}"})
            return
        client.waits = command
        if isinstance(client, Client):
            client.deadline = float("inf")
        answer = order()
        if answer is not None:
            self._answer(client, answer)

    def _follow(self, client: Client, argument: str) -> None:
        """Begin a tail: its reading end goes with the answer."""
        try:
            number, reading = self._tails.open(Wanted.parse(argument))
        except (ValueError, NoTail) as error:
            self._answer(client, {"error": str(error)})
            return
        client.waits, client.deadline, client.tail = "tail", float("inf"), number
        with reading:
            try:
                socket.send_fds(client.sock, [_line({"tail": True})], [reading.fileno()])
            except OSError:
                self._drop(client)

    def tell_followers(self, news: Mapping[str, Any]) -> None:
        """Tell those that follow a tail, which goes on."""
        for client in self._clients:
            if client.tail is not None:
                with contextlib.suppress(OSError):
                    client.sock.send(_line(news))

    def settle(self, command: str, answer: Mapping[str, Any]) -> None:
        """Send this answer to all clients that wait for the result of a command."""
        everyone: list[Client | Remote] = [*self._clients, *self._remote]
        for client in everyone:
            if client.waits == command:
                self._answer(client, answer)

    def _answer(self, client: Client | Remote, answer: Mapping[str, Any]) -> None:
        if isinstance(client, Remote):
            self._remote.discard(client)
            client.send(answer)
            return
        with contextlib.suppress(OSError):
            client.sock.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            client.sock.send(json.dumps(answer).encode())  # an answer fits in the buffer of a fresh socket
        self._drop(client)

    def keep_time(self, now: float) -> None:
        """Drop clients that have not sent their line in time."""
        for client in [client for client in self._clients if client.deadline <= now]:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._selector.unregister(client)
            client.sock.close()
            if client.tail is not None:
                self._tails.close(client.tail)

    def forget(self) -> None:
        """Close everything in a process that was forked: the file and the clients stay the supervisor's."""
        if self._socket is not None:
            self._socket.close()
        for client in self._clients:
            client.sock.close()
        self._tails.forget()

    def close(self) -> None:
        """Answer no more, and remove the file."""
        if self._socket is None:
            return
        for client in list(self._clients):
            self._drop(client)
        self._selector.unregister(self._socket)
        self._socket.close()
        self._socket = None
        with contextlib.suppress(OSError):
            self._path.unlink()


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def about(path: Path, site: Site, state: str, version: int, last_reload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a supervisor's description of itself: it runs `site`, which was at `path` when it had that `version`."""
    return {
        "pid": os.getpid(),
        "program": __version__,
        "site": os.path.realpath(path),
        "version": version,
        "sockets": str(site.admin.sockets.absolute()),
        "node": site.node,
        "cluster": site.cluster is not None,
        "state": state,
        "last_reload": dict(last_reload),
    }
