from collections.abc import Hashable, Sequence

from gateway.balance.affinity import Affinity
from gateway.balance.policy import Members, Policy
from gateway.proxy.queue import WaitQueue
from gateway.proxy.retry import Retries
from gateway.proxy.server import Server

class ServerProtocol: ...

class Backend:
    name: str
    servers: list[Server]
    members: Members
    queue: WaitQueue
    def variety(
        self, settings: Hashable, timeouts: Sequence[float], affinity: Affinity | None, retries: Retries
    ) -> Backend: ...
    def adopt(self, before: Backend) -> None: ...
    def __init__(
        self,
        name: str,
        servers: list[Server],
        members: Members,
        policy: Policy,
        timeouts: Sequence[float],
        affinity: Affinity | None,
        retries: Retries,
        queue: WaitQueue,
        protocol: ServerProtocol,
        *,
        traffic: int,
        orca: bool = False,
    ) -> None: ...
