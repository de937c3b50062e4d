from collections.abc import Callable
from typing import Any

from gateway.board import Board
from gateway.proxy.conn import Poller

class WaitQueue:
    limit: int
    count: int
    wait_ns: int
    def __init__(
        self, poller: Poller, board: Board, slot: int, worker: int, workers: int, limit: int, seconds: float
    ) -> None: ...
    def waiting(self) -> list[Any]: ...
    def adopt(self, before: WaitQueue, moved: Callable[[Any], object]) -> None: ...
