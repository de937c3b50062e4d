from typing import Final

WHYS: Final[tuple[str, ...]]

class Adaptive:
    base: float
    why: str
    def __init__(self, limit: float, now: int) -> None: ...
    def look(self, now: int, answers: int, seconds: float, in_flight: int, age: float = ...) -> float: ...
