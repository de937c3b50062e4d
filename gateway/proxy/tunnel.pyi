from collections.abc import Callable
from typing import Final

from gateway.proxy.conn import Poller

ENDS: Final[tuple[str, ...]]

class Tunnel:
    from_first: int
    from_second: int

def between(
    poller: Poller, first: int, second: int, idle_seconds: float, on_end: Callable[[str], object]
) -> Tunnel: ...
