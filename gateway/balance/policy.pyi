from collections.abc import Sequence

from gateway.board import Board

class Members:
    count: int
    def __init__(self, board: Board, rows: Sequence[tuple[int, float, int, bool]], workers: int) -> None: ...

class Policy:
    def choose(self, members: Members, tried: Sequence[int] = ()) -> int: ...
