from collections.abc import Iterable
from typing import Any

def head_of(
    fields: Iterable[tuple[bytes, bytes]],
    *,
    head_bytes: int = 32768,
    target_bytes: int = 16384,
    count: int = 100,
    has_body: bool = False,
    trailers: bool = False,
) -> tuple[Any, ...]: ...
