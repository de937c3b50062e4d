"""Tasks that must not end: an error is logged, and the task restarts."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

K = TypeVar("K")
P = TypeVar("P")

RESTART_DELAY = 1.0  # seconds
CANCEL_AGAIN = 0.05
"""Seconds until a task that has lost its cancellation is cancelled again."""

_log = logging.getLogger("gateway.control")


async def keep_running(
    name: str,
    work: Callable[[], Awaitable[None]],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run `work` until it returns; if it raises, log the error and run it again after RESTART_DELAY."""
    while True:
        try:
            return await work()
        except Exception:  # noqa: BLE001 - its purpose
            _log.exception("%s failed; restarting in %g s", name, RESTART_DELAY)
        await sleep(RESTART_DELAY)


async def replan(
    running: dict[K, tuple[P, asyncio.Task[None]]],
    plans: Mapping[K, P],
    start: Callable[[K, P], Coroutine[Any, Any, None]],
) -> None:
    """Run one task per plan: unchanged ones continue, the others stop or start."""
    gone = [key for key, (plan, _) in running.items() if plans.get(key) != plan]
    await stop([running.pop(key)[1] for key in gone])
    for key, plan in plans.items():
        if key not in running:
            running[key] = plan, asyncio.create_task(start(key, plan))


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended.

    A task may lose a cancellation and go on: asyncio.wait_for of Python before 3.12 drops one that comes together with
    the result (python/cpython#86296). So it is cancelled again until it has ended.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=CANCEL_AGAIN)
        for task in ended:
            if not task.cancelled():
                task.exception()  # else it would be logged as never retrieved
