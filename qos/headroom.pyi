from typing import Final

FIRST: Final[int]
WHYS: Final[tuple[str, ...]]

class Measured:
    why: str
    def look(
        self,
        now: float,
        *,
        places: float,
        at_servers: float,
        waiting: float = ...,
        seconds: float = ...,
        target: float = ...,
        live: int = ...,
        admitted: int = ...,
        horizon: float = ...,
    ) -> tuple[int, int]: ...
