"""The evacuation of this site, in order: who orders it, what it waits for, and for how long still. Pure.

No new sessions, and out of DNS and redirects, from the first moment on. Then it waits until the answers of name servers
have expired in resolvers, then until sessions and requests have ended, and then shared addresses may move.
"""

from dataclasses import dataclass
from typing import Final

from gateway.config.overrides import Override
from gateway.config.sites import Sites
from gateway.config.units import clock_text
from gateway.reports import EvacuationReport, HeartbeatReport

GRACE: Final = 2.0
"""Seconds beyond the TTL of an answer: for those that were on their way, and for the other sites to hear of it."""


@dataclass(frozen=True, slots=True)
class Order:
    """Why the site is evacuated: what says so, since when and until when, in seconds since 1970."""

    by: str
    since: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Present:
    """What is still here: sessions and requests in flight, and shared addresses that other nodes could take.

    `drained`: the heartbeat process knows that it is to give its addresses away, or there is none.
    """

    left: int
    addresses: tuple[str, ...] = ()
    drained: bool = True


def ordered(sites: Sites, override: Override, now: float) -> Order | None:
    """What this gateway itself says; a command outweighs a window, and one to undo it outweighs the present window."""
    if override.state == "drain":
        return Order("command", override.since)
    window = sites.window(now)
    if window is None or (override.state == "ready" and override.since >= window[0]):
        return None
    return Order("window", *window)


def still_here(left: int, heartbeat: HeartbeatReport | None) -> Present:
    """What is here by the report of the heartbeat process; None: it does not respond."""
    if heartbeat is None:
        return Present(left, drained=False)
    others = [node.name for node in heartbeat.nodes if node.state == "join" and node.alive and not node.own]
    here = tuple(each.address for each in heartbeat.addresses if others and each.owner in {None, heartbeat.node})
    return Present(left, here, drained=heartbeat.admin_state != "join")


def orderer(by: str) -> str:
    """Why a site is evacuated, by `EvacuationReport.by`, for people."""
    return {"command": "by command", "window": "in a maintenance window"}.get(by, f"by the gateway {by}")


def news(before: EvacuationReport | None, now: EvacuationReport | None) -> str:
    """What the log says when the one state of this site comes after the other; an empty text: nothing has changed."""
    if now is None:
        return f"site {before.site} is not evacuated any more: it takes new clients" if before is not None else ""
    if before is None or before.since != now.since:
        until = "" if now.until is None else f" until {clock_text(now.until)}"
        return f"site {now.site} is evacuated {orderer(now.by)}{until}: no new clients"
    if now.phase == "done" and before.phase != "done":
        return f"site {now.site} is evacuated: no client is left"
    return ""


class Evacuation:
    """Follows one from its order to its end. Times are in seconds since 1970."""

    def __init__(self) -> None:
        self._order: Order | None = None
        self.released = False
        """Shared addresses may move to other nodes."""
        self._most: tuple[float, int] = (0.0, 0)
        """The most that there was to end, and when."""

    def step(self, order: Order | None, site: str, ttl: float, present: Present, now: float) -> EvacuationReport | None:
        """The state at `now`; `ttl`: of the name servers' answers, in seconds. None: there is no order."""
        if order is None or self._order is None or order.since != self._order.since:
            self.released, self._most = False, (now, present.left)
        self._order = order
        if order is None:
            return None
        if present.left >= self._most[1]:
            self._most = now, present.left
        resolvers = max(0.0, order.since + ttl + GRACE - now)
        if resolvers <= 0.0 and present.left == 0:
            self.released = True  # a late client does not bring addresses back
        if self.released:
            phase = "done" if present.drained and not present.addresses else "addresses"
        else:
            phase = "resolvers" if resolvers > 0.0 else "sessions"
        return EvacuationReport(
            site=site,
            by=order.by,
            since=order.since,
            until=order.until,
            phase=phase,
            resolvers=round(resolvers, 1),
            left=present.left,
            estimate=self._estimate(present.left, now),
            addresses=present.addresses,
        )

    def _estimate(self, left: int, now: float) -> float | None:
        """Seconds until nothing is left, if as many end per second as since there were most."""
        then, most = self._most
        if left == 0:
            return 0.0
        return round(left * (now - then) / (most - left), 1) if most > left else None
