from collections.abc import Callable
from typing import Any

from gateway.board import Board
from gateway.proxy.conn import Poller
from gateway.proxy.lanes import Lanes

class WaitQueue:
    limit: int
    count: int
    wait_ns: int
    def __init__(
        self,
        poller: Poller,
        board: Board,
        slot: int,
        worker: int,
        workers: int,
        limit: int,
        seconds: float,
        lanes: Lanes | None = None,
    ) -> None: ...
    def waiting(self) -> list[Any]: ...
    def adopt(self, before: WaitQueue, moved: Callable[[Any], int | None]) -> None: ...

class Waiter:
    called: bool
    def __init__(self, queue: WaitQueue, turn: Callable[[Waiter], object], since: int) -> None: ...
    def enter(self, lane: int, *, ahead: bool = False) -> None: ...
    def leave(self) -> None: ...
    def turn_taken(self) -> None: ...
    def moved(self, queue: WaitQueue) -> None: ...

def busy(queue: WaitQueue) -> bool: ...
def wake(queue: WaitQueue) -> None: ...
