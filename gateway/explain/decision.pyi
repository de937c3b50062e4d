from typing import Any

from gateway.config.expectation import Assumption
from gateway.proxy.worker_context import Frontend, WorkerContext

def decision_on(
    context: WorkerContext,
    frontend: Frontend,
    listener: str,
    head: bytes,
    client: str,
    *,
    https: bool,
    assumed: Assumption | None = None,
    verified: bool = False,
) -> dict[str, Any]: ...
