from typing import Any

from gateway.proxy.worker_context import Frontend, WorkerContext

def decision_on(
    context: WorkerContext, frontend: Frontend, listener: str, head: bytes, client: str, *, https: bool
) -> dict[str, Any]: ...
