from gateway.balance.policy import Members
from gateway.board import Board
from gateway.rules.request_key import RequestKey

class Overload:
    concurrency: int
    adaptive: bool
    target: int
    newest_first: bool
    fair_by: RequestKey | None
    def __init__(
        self,
        board: Board,
        members: Members,
        traffic: int,
        worker: int,
        workers: int,
        *,
        concurrency: int | None,
        target: float = ...,
        newest_first: bool = ...,
        fair_by: RequestKey | None = ...,
    ) -> None: ...

def entered(overload: Overload, change: int) -> None: ...
