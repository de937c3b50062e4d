from collections.abc import Sequence

from gateway.balance.policy import Members
from gateway.board import Board
from gateway.proxy.overload import Overload
from gateway.proxy.qos_class import QosClass

class Lanes:
    def __init__(
        self,
        board: Board,
        members: Members,
        worker: int,
        workers: int,
        classes: Sequence[tuple[QosClass, float, int]],
        overload: Overload | None = None,
    ) -> None: ...
    def rank_now(self, lane: int) -> int: ...
    def entered(self, lane: int, change: int) -> None: ...
    def counted(self, lane: int, change: int) -> None: ...
