"""Passive checks: which servers of a backend are taken out for how they answer, and let back in. Pure.

A server is ejected after `errors` failures in a row, or when it takes `latency_factor` times as long as its backend's
median; for `eject_for` seconds, and for longer each time that it comes back no better. Then it is probed: one request
at a time, until one is answered well. Never more than `max_ejected` of the servers are out, and when fewer than `panic`
of them would be left (those that checks found down are gone as well), none is: if all are bad, the trouble is
elsewhere, and sending everything to the last one standing would knock that over too.

The rules are those of outlier detection in Envoy (docs, "Outlier detection"), as users know them, on our own measures.
"""

import enum
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 10
"""`eject_for` grows up to so many times."""
FORGIVEN_AFTER: Final = 5
"""An ejection is forgotten when the server has been well for so many times `eject_for`."""
FEWEST: Final = 3
"""Servers whose times must be known for a median to mean something."""
ENOUGH: Final = 5
"""Good answers since a server came back that its time is judged by."""


class Ejection(enum.Enum):
    """What a server's answers have led to."""

    IN_ROTATION = "in rotation"
    OUT = "ejected"
    PROBED = "probed"


@dataclass(frozen=True, slots=True)
class Rules:
    """As in the site file; seconds and shares."""

    errors: int
    latency_factor: float
    eject_for: float
    max_ejected: float
    panic: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One server now: failures since its last good answer, seconds an answer is expected to take (None: not known).

    `good` counts its good answers, so that one after another can be told; `up` is what checks and operators say.
    """

    streak: int
    seconds: float | None
    good: int
    up: bool


@dataclass(slots=True)
class _Server:
    state: Ejection = Ejection.IN_ROTATION
    since: float = 0.0
    times: int = 0  # ejections that are not forgotten
    good: int = 0  # good answers when the state began
    streak: int = 0  # failures in a row, likewise

    def become(self, state: Ejection, seen: Seen, now: float) -> None:
        """Go over to a state."""
        self.state, self.since, self.good, self.streak = state, now, seen.good, seen.streak


class Outliers:
    """The ejections of one backend. Times are in seconds of any one steady clock."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}

    def judge(self, rules: Rules, seen: Mapping[str, Seen], now: float) -> dict[str, tuple[Ejection, str]]:
        """Return where each server stands, and in a few words why, if that has changed with this look."""
        self._servers = {name: self._servers.get(name) or _Server() for name in seen}
        why: dict[str, str] = {}
        for name, server in self._servers.items():
            self._return(rules, server, seen[name], now)
        for name, reason in self._suspects(rules, seen):
            if self._may_go(rules, seen):
                server = self._servers[name]
                server.times = min(LONGEST, server.times + 1)
                server.become(Ejection.OUT, seen[name], now)
                why[name] = reason
        left = sum(item.up and self._servers[name].state is not Ejection.OUT for name, item in seen.items())
        panic = left < rules.panic * len(seen)
        return {
            name: (Ejection.IN_ROTATION if panic else server.state, why.get(name, ""))
            for name, server in self._servers.items()
        }

    def _return(self, rules: Rules, server: _Server, seen: Seen, now: float) -> None:
        if server.state is Ejection.OUT and now - server.since >= rules.eject_for * server.times:
            server.become(Ejection.PROBED, seen, now)
        elif server.state is Ejection.PROBED and seen.good > server.good and seen.streak == 0:
            server.become(Ejection.IN_ROTATION, seen, now)
        elif server.state is Ejection.IN_ROTATION and now - server.since >= rules.eject_for * FORGIVEN_AFTER:
            server.times = 0

    def _suspects(self, rules: Rules, seen: Mapping[str, Seen]) -> Sequence[tuple[str, str]]:
        """Who should go, and why."""
        known = [item.seconds for name, item in seen.items() if item.seconds and item.up and self._stays(name)]
        usual = statistics.median(known) if len(known) >= FEWEST else None
        found = []
        for name, item in seen.items():
            server = self._servers[name]
            if server.state is Ejection.PROBED and item.streak > server.streak:
                found.append((name, "it fails again"))
            elif server.state is not Ejection.IN_ROTATION or not item.up:
                continue
            elif item.streak >= rules.errors:
                found.append((name, f"{item.streak} failures in a row"))
            elif not item.seconds or not usual or item.good - server.good < ENOUGH:
                continue
            elif item.seconds > rules.latency_factor * usual:
                found.append((name, f"it takes {item.seconds:.3g} s to answer, the others {usual:.3g} s"))
        return found

    def _may_go(self, rules: Rules, seen: Mapping[str, Seen]) -> bool:
        """Whether one more server may be out."""
        gone = sum(server.state is Ejection.OUT for server in self._servers.values())
        return gone + 1 <= rules.max_ejected * len(seen)

    def _stays(self, name: str) -> bool:
        return self._servers[name].state is Ejection.IN_ROTATION
