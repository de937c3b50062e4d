from typing import TypeAlias

from gateway.board import Board
from gateway.proxy.tls_to_servers import ClientContext

Address: TypeAlias = tuple[str, int] | str

STATES: tuple[str, ...]

def edges() -> dict[tuple[str, str], int]: ...
def sockaddr_of(address: Address) -> bytes: ...
def address_text(address: Address) -> str: ...

class Server:
    backend: str
    name: str
    address: Address
    token: bytes
    slot: int
    proxy_version: int
    opened: int
    reused: int
    def __init__(
        self,
        backend: str,
        name: str,
        address: Address,
        board: Board,
        slot: int,
        worker: int,
        localhost: bool = False,
        proxy_version: int = 0,
    ) -> None: ...
    def retire(self) -> None: ...

class TlsServer(Server):
    context: ClientContext
    called: str | None
    def __init__(
        self,
        context: ClientContext,
        called: str | None,
        backend: str,
        name: str,
        address: Address,
        board: Board,
        slot: int,
        worker: int,
        localhost: bool = False,
        proxy_version: int = 0,
    ) -> None: ...
