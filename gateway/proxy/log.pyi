import asyncio
from collections.abc import Sequence
from typing import TypeAlias

Pairs: TypeAlias = Sequence[tuple[str, str | tuple[str, str] | None]]

def layout(
    form: str,
    template_parts: Pairs,
    *,
    classes: bool = False,
    sessions: bool = False,
    rules: bool = False,
    users: bool = False,
) -> Pairs: ...

class AccessLog:
    fd: int
    def __init__(self, loop: asyncio.AbstractEventLoop | None, fd: int, form: str, pairs: Pairs) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    def reopen(self, fd: int) -> None: ...

def put_field(log: AccessLog, kind: str, value: bytes | int) -> None: ...
