from typing import Any, Final

SLOTS: Final[int]
RING: Final[int]
MOST_SESSIONS: Final[int]
MOST_PLACES: Final[int]
UNCONFIRMED: Final[int]
VERSION: Final[int]

def size(slots: int = ..., ring: int = ...) -> int: ...

class SessionTable:
    def __init__(self, memory: object, secret: bytes | None = None, *, slots: int = ..., ring: int = ...) -> None: ...
    @property
    def ident(self) -> int: ...
    def figures(self, now: int, idle: int, refresh: int) -> dict[str, Any]: ...
    def listed(self, now: int, idle: int, refresh: int, most: int) -> list[tuple[int, int, bool]]: ...
    def set_share(self, most: int, until: int) -> None: ...
    def close_until(self, until: int) -> None: ...
    def counts(self, now: int, *, most: int, idle: int, refresh: int) -> tuple[int, int, int]: ...
    def ask(
        self,
        ticket: tuple[str, int, int, int] | None,
        now: float,
        *,
        most: int,
        idle: int = ...,
        places: int = ...,
        refresh: int = ...,
        opens: int = ...,
        asset: bool = ...,
        wall: float | None = ...,
    ) -> tuple[str, tuple[str, int, int, int] | None, int]: ...
    def measure_now(
        self,
        now: float,
        *,
        places: float,
        at_servers: float,
        waiting: float = ...,
        seconds: float = ...,
        target: float = ...,
        queue: int = ...,
        refresh: int = ...,
    ) -> int: ...
    def census(self, now: float, *, most: int, idle: int = ..., refresh: int = ...) -> None: ...
