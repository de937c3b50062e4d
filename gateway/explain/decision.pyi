from typing import Any

from gateway.proxy.hub import Frontend, Hub

def decision_on(
    hub: Hub, frontend: Frontend, listener: str, head: bytes, client: str, *, https: bool
) -> dict[str, Any]: ...
