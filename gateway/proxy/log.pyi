import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from gateway.proxy.syslog import Sender

Pairs: TypeAlias = Sequence[tuple[str, object]]

def layout(
    form: str,
    template_parts: Pairs,
    *,
    classes: bool = False,
    sessions: bool = False,
    rules: bool = False,
    users: bool = False,
    syslog: tuple[str, str] | None = None,
) -> Pairs: ...

class AccessLog:
    fd: int
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None,
        fd: int,
        form: str,
        pairs: Pairs,
        *,
        sender: Sender | None = None,
        lost: Callable[[int], None] | None = None,
        sample: float = 1.0,
        following: AccessLog | None = None,
    ) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    def reopen(self, fd: int) -> None: ...

def put_field(log: AccessLog, kind: str, value: bytes | int) -> None: ...
