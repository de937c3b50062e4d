from collections.abc import Sequence

from gateway.proxy.backend import Backend
from gateway.rules.actions import Step
from gateway.wire.waiting_page import WaitingPage
from qos.sessions import SessionTable

class SessionGate:
    table: SessionTable
    assumed: tuple[str, int, int, int]
    def __init__(
        self,
        table: SessionTable,
        key: bytes,
        *,
        most: int,
        idle: int,
        places: int,
        refresh: int,
        opens: int,
        cookie: str | None,
        url: str | None,
        page: WaitingPage,
        full: tuple[int, str, bytes],
        backends: Sequence[Backend],
        elsewhere: Step | None = None,
    ) -> None: ...
    def take_up(self, now: int) -> None: ...
