"""Tasks that must not end: an error in one is logged, and it starts again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

RESTART_DELAY = 1.0  # seconds

_log = logging.getLogger("gateway.control")


async def keep_running(
    name: str,
    work: Callable[[], Awaitable[None]],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Do `work` until it returns; whenever it raises, log that and do it again after RESTART_DELAY."""
    while True:
        try:
            return await work()
        except Exception:  # noqa: BLE001 - that is what this is for
            _log.exception("%s failed; it starts again in %g s", name, RESTART_DELAY)
        await sleep(RESTART_DELAY)


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
