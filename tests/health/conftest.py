import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Checks run in the loop of control, and what they say depends on no property of it."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
