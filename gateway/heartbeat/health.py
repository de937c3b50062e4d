"""The fitness of this gateway to serve, from the state of its own processes, servers and router. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.process.supervisor_status import STUCK


@dataclass(frozen=True, slots=True)
class Health:
    """`value`: 1 to 255, comparable between nodes; `reason`: the problem, or "serving"."""

    value: int
    reason: str


def judge(worker_ages: Sequence[float], backends: Sequence[tuple[str, bool]], *, router: bool) -> Health:
    """Return the health of a node.

    `worker_ages`: for each worker the seconds since its last update. `backends`: name, and whether any of its servers
    may be up. `router`: whether it is reachable. A stuck worker weighs most: its clients get no response.
    """
    stuck = sum(age > STUCK for age in worker_ages)
    down = [name for name, up in backends if not up]
    share = 1.0 - len(down) / len(backends) if backends else 1.0
    value = 1 + 128 * (stuck == 0) + 64 * router + round(62 * share)
    reasons = []
    if stuck:
        reasons.append(f"{stuck} of {len(worker_ages)} workers do not respond")
    if not router:
        reasons.append("the router does not respond")
    if down:
        reasons.append(f"no server is up in backend {', '.join(down)}")
    return Health(value, "; ".join(reasons) or "serving")
