"""Opens the connection of a check, which may have to begin with a PROXY header."""

import asyncio
import socket
from typing import Any

from loadagent.http_get import Place


async def greeted(address: tuple[str, int] | str, greeting: bytes) -> Place:
    """A connection on which the greeting has been sent; without one, only the address. Raises OSError."""
    if not greeting:
        return address
    loop = asyncio.get_running_loop()
    path = isinstance(address, str)
    family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)  # noqa: FBT003 - as socket names it
        await loop.sock_connect(made, address)
        await loop.sock_sendall(made, greeting)
    except BaseException:
        made.close()
        raise
    return made


def is_unix(place: Place) -> bool:
    """Whether this is a Unix socket, for which asyncio has functions of their own."""
    return isinstance(place, str) or (isinstance(place, socket.socket) and place.family == socket.AF_UNIX)


def arguments(place: Place) -> dict[str, Any]:
    """What these functions want to know."""
    if isinstance(place, socket.socket):
        return {"sock": place}
    return {"path": place} if isinstance(place, str) else {"host": place[0], "port": place[1]}
