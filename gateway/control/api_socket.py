"""The Unix socket of the admin API: the same as over TCP, for root and the account that started the gateway.

What HTTP needs takes most of a second to load, and 14 MB. So it is loaded when a client asks for the first time, in a
thread; until then this is a socket that nobody answers.
"""

import asyncio
import contextlib
import importlib
import logging
import mimetypes
import os
import pwd
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.system import private_socket

NAME: Final = "api.sock"
BACKLOG: Final = 16

_log = logging.getLogger("gateway.control")

Serve = Callable[[socket.socket, Mapping[int, str]], None]


@dataclass(eq=False)
class ApiSocket:
    """A listening socket, and the accounts that may connect, with their names."""

    sock: socket.socket | None
    users: Mapping[int, str]
    _loading: asyncio.Task[None] | None = None

    def wait(self, serve: Serve) -> None:
        """Call `serve` when there is a client, in the running event loop."""
        assert self.sock is not None  # noqa: S101 - until it is closed
        asyncio.get_running_loop().add_reader(self.sock, self._begin, self.sock, serve)

    def _begin(self, sock: socket.socket, serve: Serve) -> None:
        asyncio.get_running_loop().remove_reader(sock)
        self._loading = asyncio.create_task(self._load(sock, serve))

    async def _load(self, sock: socket.socket, serve: Serve) -> None:
        try:
            await asyncio.to_thread(_import)
        except (ImportError, OSError) as error:
            _log.warning(
                "the API cannot be served at %s: the account of this process may not read the Python packages that it "
                "needs (%s); with admin: listen they are loaded before the account is changed",
                NAME,
                error,
            )
            self.close()
            return
        self.sock = None  # the server's by now
        serve(sock, self.users)

    def close(self) -> None:
        """Listen no more, unless a server does."""
        if self._loading is not None:
            self._loading.cancel()
        if self.sock is not None:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self.sock)
            self.sock.close()
            self.sock = None


def _import() -> None:
    mimetypes.knownfiles.clear()  # aiohttp reads them, which this process may not; no page has a type of theirs
    importlib.import_module("gateway.control.admin_listener")


def listen(directory: Path, *, takes_over: bool) -> ApiSocket | None:
    """Listen in `directory` as the account that started the gateway; None, and a log line, if that fails.

    `takes_over`: the process that currently listens there is about to end.
    """
    path = directory / NAME
    try:
        sock = private_socket.listen_alone(path, BACKLOG, takes_over=takes_over)
    except OSError as error:
        _log.info("the API has no Unix socket: %s: %s; see admin.sockets", path, (error.strerror or str(error)).lower())
        return None
    return ApiSocket(sock, {user: _name(user) for user in {0, os.geteuid()}})


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid {user}"
