from collections.abc import Iterable, Sequence
from typing import Any

class Route:
    index: int
    action: Any
    def __init__(
        self, index: int, scheme: str | None, hosts: Iterable[str], paths: Iterable[tuple[str, bool]], action: object
    ) -> None: ...

class RouteTable:
    def __init__(self, routes: Sequence[Route]) -> None: ...
    def find(self, scheme: str | None, host: bytes, path: bytes) -> tuple[Route, int] | None: ...
