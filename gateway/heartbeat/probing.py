"""Whether another host has an address that is about to be taken, from the answers to probes (RFC 5227). Pure.

Probing begins before the takeover, at the end of the owner's silence, so that no time is lost once the votes are there.
Until then the owner may answer: its lease is not over. Any other host that answers is a duplicate, and so is the owner
once another node has the votes: its lease has ended before (lease.py).
"""

from dataclasses import dataclass

from gateway.heartbeat.lease import NEVER


def pause(interval: float) -> float:
    """Seconds between two probes of an unowned address; `interval`: of beats, in seconds."""
    return min(0.01, interval / 4)


@dataclass(slots=True)
class Probing:
    """Probes from `begin` to `end`. `owner`: the hardware address that last answered for the address, if any."""

    begin: float
    end: float
    owner: str | None
    other_mac: str | None = None
    """A host that is not the owner."""
    answered: float = NEVER
    """The owner's last answer."""

    def hear(self, mac: str, now: float) -> None:
        """A host with this hardware address answers for the address."""
        if self.owner is None:
            self.owner = mac
        if mac == self.owner:
            self.answered = now
        else:
            self.other_mac = mac

    def answered_by(self, free: float, interval: float) -> float:
        """When every probe has had time for an answer, if the owner had to be silent from `free` on."""
        return max(self.begin + 2 * pause(interval), free + pause(interval) / 2)

    def duplicate(self, free: float) -> str | None:
        """The other host that has the address, if the owner had to be silent from `free` on."""
        if self.other_mac is not None:
            return self.other_mac
        return self.owner if self.answered >= free else None
