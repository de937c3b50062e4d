"""Waiting for something that other tasks do: bounded in time, and with a reason when it fails."""

import asyncio
from collections.abc import Callable


async def soon(holds: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Return as soon as `holds()` is true. Raises AssertionError, naming `what`, after `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not holds():
        assert loop.time() < end, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.005)
