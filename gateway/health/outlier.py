"""Passive checks: which servers of a backend are ejected because of their responses, and when they return. Pure.

A server is ejected after `errors` consecutive failures, or when its response time is `latency_factor` times the median
of its backend; for `eject_for` seconds, and for longer each time that it returns without improvement. Then it is
probed: one request at a time, until one succeeds. At most `max_ejected` of the servers are ejected, and when fewer than
`panic` of them would remain (servers that are down by checks count, too), none is: if all fail, the cause is elsewhere,
and sending all requests to the last remaining server would overload it.

The rules are those of Envoy's outlier detection (docs, "Outlier detection"), applied to this gateway's measurements.
"""

import enum
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 10
"""Largest factor by which `eject_for` grows."""
FORGIVEN_AFTER: Final = 5
"""An ejection is forgotten when the server has worked for this many times `eject_for`."""
FEWEST: Final = 3
"""Smallest number of servers with known response times for a median."""
ENOUGH: Final = 5
"""Successful responses since a server's return before its response time is judged."""


class Ejection(enum.Enum):
    """The ejection state of a server."""

    IN_ROTATION = "in rotation"
    OUT = "ejected"
    PROBED = "probed"


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of the site file; in seconds and shares."""

    errors: int
    latency_factor: float
    eject_for: float
    max_ejected: float
    panic: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A server's current figures: failures since its last success, expected response time in seconds (None: unknown).

    `good` counts its successful responses, to detect a new one; `up`: by checks and admin state.
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
    good: int = 0  # successful responses when the state began
    streak: int = 0  # consecutive failures at that time

    def become(self, state: Ejection, seen: Seen, now: float) -> None:
        """Enter a state."""
        self.state, self.since, self.good, self.streak = state, now, seen.good, seen.streak


class Outliers:
    """The ejections of one backend. Times are in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}

    def judge(self, rules: Rules, seen: Mapping[str, Seen], now: float) -> dict[str, tuple[Ejection, str]]:
        """Return the state and a short reason for each server whose state this call has changed."""
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
        """The servers to eject, and the reasons."""
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
                found.append((name, f"{item.streak} consecutive failures"))
            elif not item.seconds or not usual or item.good - server.good < ENOUGH:
                continue
            elif item.seconds > rules.latency_factor * usual:
                found.append((name, f"response time {item.seconds:.3g} s, median of the others {usual:.3g} s"))
        return found

    def _may_go(self, rules: Rules, seen: Mapping[str, Seen]) -> bool:
        """Whether one more server may be ejected."""
        gone = sum(server.state is Ejection.OUT for server in self._servers.values())
        return gone + 1 <= rules.max_ejected * len(seen)

    def _stays(self, name: str) -> bool:
        return self._servers[name].state is Ejection.IN_ROTATION
