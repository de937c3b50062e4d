"""A server inside a test, of which nothing is left when the test ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, where: str | Path = "127.0.0.1", port: int = 0) -> AsyncIterator[asyncio.Server]:
    """Run `serve` for every connection to an address or to a Unix socket; it need not close them."""
    handlers = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        try:
            with suppress(EOFError, OSError):
                await serve(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    if isinstance(where, Path):
        server = await asyncio.start_unix_server(handle, where)
    else:
        server = await asyncio.start_server(handle, where, port)
    try:
        yield server
    finally:
        server.close()
        running = [task for task in handlers if task]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
