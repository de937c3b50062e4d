"""How many of a site's new clients are sent to other sites, and to which: `site: spill`. Pure.

It begins before the site is full, with few clients, and grows with the load, so that no step is larger than what the
reports of the other sites can show until the next one. Nothing is sent to a site that is not clearly less loaded than
this one, or that is about to send clients away itself: no client is worse off. Once it has begun, it ends at a lower
load than that at which it began.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MARGIN: Final = 0.1
"""By so much less loaded than this site must one be that gets clients."""
BAND: Final = 0.05
"""By so much lower is the load at which it ends."""
PACE: Final = 0.1
"""Part of new clients by which it changes at most in a second: a slower fall than rise would swing."""
LEAST: Final = 1e-6
RISING: Final = 0.2
"""The part of the averaged load that the newest second is, while it rises. Where requests end at once, the load follows
the part of clients without delay, and an average of fewer seconds would swing.
"""
FALLING: Final = 0.12
"""The same while it falls."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another site: its load, its capacity in requests per second (None: unknown), and how much both are trusted."""

    load: float
    capacity: float | None = None
    trust: float = 1.0


class Spill:
    """Steps once a second or so. `begin`, `whole`: loads of this site at which some and all new clients are sent."""

    def __init__(self, begin: float, whole: float) -> None:
        self.begin = begin
        self.whole = whole
        self.part = 0.0
        """Of new clients that are sent away, from 0 to 1."""
        self._load: float | None = None
        self._seen: float | None = None
        self._stepped: float | None = None

    def see(self, own: float | None, now: float) -> None:
        """Take the load of this site into the average; more often than `step`, for it is that of a moment."""
        elapsed = 0.0 if self._seen is None else max(0.0, now - self._seen)
        self._seen = now
        if own is None or self._load is None:
            self._load = own
        else:
            pace = RISING if own > self._load else FALLING
            self._load += (own - self._load) * min(1.0, pace * elapsed)

    def step(self, own: float | None, others: Mapping[str, Other], now: float) -> dict[str, float]:
        """The part of new clients for each other site at `now`, in seconds of any monotonic clock.

        `own`: load of this site, None if it is unknown; then none is sent away. `others`: the sites that take clients.
        """
        elapsed = 0.0 if self._stepped is None else max(0.0, now - self._stepped)
        self._stepped = now
        self.see(own, now)
        if self._load is None:
            self.part = 0.0
            return {}
        rooms = self._rooms(self._load, others)
        wanted = self._wanted(self._load) if rooms else 0.0
        self.part = min(max(wanted, self.part - PACE * elapsed), self.part + PACE * elapsed)
        if not rooms or self.part < LEAST:
            self.part = 0.0
        whole = sum(rooms.values())
        return {name: self.part * room / whole for name, room in rooms.items()} if self.part > 0.0 else {}

    def _wanted(self, load: float) -> float:
        """The part that is to be sent away at a load."""
        begin = self.begin - BAND if self.part > 0.0 else self.begin
        return min(1.0, max(0.0, (load - begin) / (self.whole - begin)))

    def _rooms(self, own: float, others: Mapping[str, Other]) -> dict[str, float]:
        """The capacity that each site has left before it sends clients away itself, for those that can get some."""
        known = [other.capacity for other in others.values() if other.capacity is not None]
        mean = sum(known) / len(known) if known else 1.0
        found = {
            name: (mean if other.capacity is None else other.capacity) * (self.begin - other.load) * other.trust
            for name, other in others.items()
            if other.load < min(self.begin, own - MARGIN)
        }
        return {name: room for name, room in found.items() if room > 0.0}
