"""How fit a node is for the addresses of one interface: by its carrier, and by its health as far as believed. Pure."""

from gateway.heartbeat.damping import Damper
from gateway.heartbeat.health import Health

LEAST = 1
"""Of a node that can serve at all: it takes what nobody else can take."""


class Fitness:
    """Remembers how steady the carrier of an interface has been."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._carrier = Damper(0)

    def judge(self, health: Health, believed: int, now: float, *, carrier: bool) -> tuple[int, str]:
        """Return how fit the node is, 0 (not at all) to 255, and why.

        `believed`: the damped value of `health`. A carrier that comes and goes must have stayed for a while before an
        address comes back for its sake; where no other node is left, the address is better here than nowhere.
        """
        steady = self._carrier.observe(carrier, now)
        if not carrier:
            return 0, f"{self._interface} is down"
        if not steady:
            return LEAST, f"{self._interface} is up again, but not for long enough"
        reason = health.reason if believed == health.value else "well again, but not for long enough"
        return max(LEAST, believed), reason
