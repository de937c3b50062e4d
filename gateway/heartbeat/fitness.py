"""The fitness of a node for the addresses of one interface: by its carrier, and by its damped health. Pure."""

from gateway.heartbeat.damping import Damper
from gateway.heartbeat.health import Health

LEAST = 1
"""Fitness of a node that can barely serve: it takes only addresses that no other node can take."""


class Fitness:
    """Tracks the stability of an interface's carrier."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._carrier = Damper(0)
        self._up = False

    def look(self, now: float, *, carrier: bool) -> None:
        """Record whether there is a carrier now."""
        self._up = carrier
        self._carrier.observe(carrier, now)

    def judge(self, health: Health, believed: int, *, owner: bool) -> tuple[int, str]:
        """Return the fitness of the node, 0 (cannot serve) to 255, and the reason.

        `believed`: the damped value of `health`. `owner`: of the address in question. A carrier that was lost must have
        been stable for a while before an address returns because of it; if there was no other node, the address was
        taken anyway, and the earlier loss is no reason to move it again.
        """
        if not self._up:
            return 0, f"{self._interface} is down"
        if not self._carrier.value and not owner:
            return LEAST, f"{self._interface} is up again, but not long enough"
        reason = health.reason if believed == health.value else "healthy again, but not long enough"
        return max(LEAST, believed), reason
