from gateway.board import Board
from gateway.rules.rate_limit import RateLimit
from qos.rates import RateTable

class QosClass:
    name: str
    priority: int
    concurrency: int
    dry_run: bool
    bandwidth: int
    total_bandwidth: int
    text: str
    def __init__(
        self,
        name: str,
        board: Board,
        worker: int,
        workers: int,
        *,
        traffic: int,
        lane: int = 0,
        priority: int = 7,
        admit: str | None = None,
        limit: RateLimit | None = None,
        concurrency: int = 0,
        dry_run: bool = False,
        bandwidth: int = 0,
        total_bandwidth: int = 0,
        rates: RateTable | None = None,
    ) -> None: ...
