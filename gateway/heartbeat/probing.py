"""Whether another host has an address that is about to be taken, from the answers to probes (RFC 5227). Pure.

Probes begin before the takeover, in the last moments of the owner's silence, so that no time is lost waiting when the
votes are there. Until then the owner may answer: its lease is not over. Anybody else who does so is a duplicate, and so
is the owner once another has the votes: its lease has ended before (lease.py).
"""

from dataclasses import dataclass

from gateway.heartbeat.lease import NEVER


def pause(interval: float) -> float:
    """Seconds between two probes of an address without an owner; `interval`: of beats, seconds."""
    return min(0.01, interval / 4)


@dataclass(slots=True)
class Probing:
    """Probes from `begin` to `end`. `owner`: the hardware address that spoke for the address last, if any did."""

    begin: float
    end: float
    owner: str | None
    stranger: str | None = None
    """A host that is not the owner."""
    answered: float = NEVER
    """When the owner spoke last."""

    def hear(self, mac: str, now: float) -> None:
        """A host with this hardware address speaks for it."""
        if self.owner is None:
            self.owner = mac
        if mac == self.owner:
            self.answered = now
        else:
            self.stranger = mac

    def answered_by(self, free: float, interval: float) -> float:
        """When all probes have had time for an answer, if the owner had to be silent from `free` on."""
        return max(self.begin + 2 * pause(interval), free + pause(interval) / 2)

    def duplicate(self, free: float) -> str | None:
        """Who else has the address, if the owner had to be silent from `free` on."""
        if self.stranger is not None:
            return self.stranger
        return self.owner if self.answered >= free else None
