"""How fit this gateway is to serve, from what is known of its own processes, servers and router. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.process.supervisor_status import STUCK


@dataclass(frozen=True, slots=True)
class Health:
    """`value`: 1 to 255, comparable between nodes; `reason`: what is amiss, or "serving"."""

    value: int
    reason: str


def judge(worker_ages: Sequence[float], backends: Sequence[tuple[str, bool]], *, router: bool) -> Health:
    """Return how fit a node is.

    `worker_ages`: for each worker the seconds since its last sign of life. `backends`: name, and whether any of its
    servers may be up. `router`: whether it is in reach. A worker that is stuck weighs most: its clients wait in vain.
    """
    stuck = sum(age > STUCK for age in worker_ages)
    down = [name for name, up in backends if not up]
    share = 1.0 - len(down) / len(backends) if backends else 1.0
    value = 1 + 128 * (stuck == 0) + 64 * router + round(62 * share)
    reasons = []
    if stuck:
        reasons.append(f"{stuck} of {len(worker_ages)} workers do not answer")
    if not router:
        reasons.append("the router does not answer")
    if down:
        reasons.append(f"no server is up in backend {', '.join(down)}")
    return Health(value, "; ".join(reasons) or "serving")
