from typing import TypeAlias

Pair: TypeAlias = tuple[bytes, bytes | memoryview]

class Trust:
    def __init__(self, pem: bytes) -> None: ...

class ClientContext:
    def __init__(self, trust: Trust | None, min_version: str, pair: Pair | None) -> None: ...

def text_of(error: int) -> str: ...
