"""A real server of WebSockets: it sends every message back."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import websockets
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request
from websockets.typing import Subprotocol


@contextmanager
def echo_server(port: int, *subprotocols: str) -> Iterator[list[Request]]:
    """Echo every message, in a thread of its own; yields the handshakes that have come."""
    ready = threading.Event()
    over = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    handshakes: list[Request] = []

    async def echo(connection: ServerConnection) -> None:
        assert connection.request is not None
        handshakes.append(connection.request)
        try:
            async for message in connection:
                await connection.send(message)
        except (websockets.ConnectionClosed, UnicodeDecodeError):
            pass  # what a test of the protocol is about

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        offered = [Subprotocol(name) for name in subprotocols] or None
        async with serve(echo, "127.0.0.1", port, max_size=None, compression=None, subprotocols=offered):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield handshakes
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join(10)
