from collections.abc import Sequence

from gateway.board import Board

class Members:
    count: int
    def __init__(
        self, board: Board, rows: Sequence[tuple[int, float, int, bool, str]], workers: int, seed: int = 1
    ) -> None: ...
    def see(self, i: int, session: int, *, now: int) -> None: ...

class Policy:
    keyed: bool
    def choose(self, members: Members, tried: Sequence[int] = (), now: int = 0, key: int = 0) -> int: ...
