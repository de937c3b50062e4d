from collections.abc import Iterable

class Respond:
    status: int
    lines: bytes
    body: bytes
    def __init__(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None: ...

class Redirect:
    status: int
    def __init__(self, status: int, parts: Iterable[tuple[str, str | None]]) -> None: ...
