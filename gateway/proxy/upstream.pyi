import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from gateway.balance.affinity import Affinity
from gateway.balance.policy import Members, Policy
from gateway.board import Board
from gateway.proxy.retry import Retries

Address: TypeAlias = tuple[str, int] | str

def sockaddr_of(address: Address) -> bytes: ...

class Server:
    backend: str
    name: str
    address: Address
    token: bytes
    slot: int
    opened: int
    reused: int
    def __init__(self, backend: str, name: str, address: Address, board: Board, slot: int, worker: int) -> None: ...
    def retire(self) -> None: ...

class Backend:
    name: str
    servers: list[Server]
    members: Members
    def adopt(self, before: Backend, loop: asyncio.AbstractEventLoop) -> None: ...
    def __init__(
        self,
        name: str,
        servers: list[Server],
        members: Members,
        policy: Policy,
        timeouts: Sequence[float],
        affinity: Affinity | None,
        retries: Retries,
        queue: tuple[int, float] | None,
        *,
        traffic: int,
        orca: bool = False,
    ) -> None: ...
