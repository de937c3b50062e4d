"""Sends reports to the gateways by UDP: a slow gateway delays neither the agent nor another gateway."""

import asyncio
import contextlib
import logging
import socket
from typing import Self

from loadagent.config import Endpoint
from loadagent.log_throttle import LogThrottle

RESOLVE_TIMEOUT = 5.0
RESOLVE_AGAIN = 30.0  # seconds: a name's address can change

_log = logging.getLogger("loadagent")


class DatagramLink:
    """The connection to one gateway. Failures are logged, at most once a minute."""

    def __init__(self, gateway: Endpoint) -> None:
        self.gateway = gateway
        self._socket: socket.socket | None = None
        self._throttle = LogThrottle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._use(None)

    async def follow(self) -> None:
        """Keep the gateway's address up to date, until cancelled."""
        while True:
            await self.resolve()
            await asyncio.sleep(RESOLVE_AGAIN)

    async def resolve(self) -> None:
        """Look up the gateway's address. If that fails, the previous one stays in use."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT):
                found = await loop.getaddrinfo(*self.gateway, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = found[0]
            connection = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            self._complain(error)
            return
        connection.settimeout(0.0)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            self._complain(error)
        else:
            self._use(connection)

    def send(self, datagram: bytes) -> None:
        """Send a datagram, or drop it: the next report replaces it."""
        if self._socket is None:
            return
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            pass
        except OSError as error:  # also reports that an earlier datagram was refused
            self._complain(error)
            with contextlib.suppress(OSError):
                self._socket.send(datagram)

    def _use(self, connection: socket.socket | None) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = connection

    def _complain(self, error: Exception) -> None:
        if self._throttle.ask("trouble", asyncio.get_running_loop().time()) is not None:
            _log.warning(
                "cannot report to gateway %s: %s",
                self.gateway,
                str(error) or "its name was not found in time",
            )
