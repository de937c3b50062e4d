from collections.abc import Sequence
from typing import TypeAlias

Pair: TypeAlias = tuple[bytes, bytes | memoryview]

def names_of(pem: bytes) -> tuple[str, ...]: ...
def exported(pem: bytes) -> bytes: ...

class ServerContext:
    def __init__(self, name: str, pairs: Sequence[Pair], min_version: str, secret: bytes) -> None: ...
