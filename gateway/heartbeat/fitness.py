"""How fit a node is for the addresses of one interface: by its carrier, and by its health as far as believed. Pure."""

from gateway.heartbeat.damping import Damper
from gateway.heartbeat.health import Health

LEAST = 1
"""Fitness of a node that can just serve: it takes only what no other node can take."""


class Fitness:
    """Remembers how steady the carrier of an interface has been."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._carrier = Damper(0)
        self._up = False

    def look(self, now: float, *, carrier: bool) -> None:
        """Take whether there is a carrier now."""
        self._up = carrier
        self._carrier.observe(carrier, now)

    def judge(self, health: Health, believed: int, *, owner: bool) -> tuple[int, str]:
        """Return how fit the node is, 0 (not at all) to 255, and why.

        `believed`: the damped value of `health`. `owner`: of the address in question. A carrier that comes and goes
        must have stayed for a while before an address comes back for its sake; where no other node was left it came
        all the same, and that a carrier was gone before is no reason to move it once more.
        """
        if not self._up:
            return 0, f"{self._interface} is down"
        if not self._carrier.value and not owner:
            return LEAST, f"{self._interface} is up again, but not long enough"
        reason = health.reason if believed == health.value else "healthy again, but not long enough"
        return max(LEAST, believed), reason
