"""A site as a worker would have it, but without clients and servers: requests are only rehearsed."""

import os
from collections.abc import Mapping
from time import time as now
from typing import Any, Self

from gateway.board import DOWN, DRAIN, MAINTENANCE, READY, UNKNOWN, UP, Board
from gateway.config.loader import Loaded
from gateway.config.model import Frontend as FrontendModel
from gateway.config.model import Listen
from gateway.config.snapshot import Snapshot
from gateway.explain.asked import Asked
from gateway.proxy.availability import Availability
from gateway.proxy.hub import Hub
from gateway.proxy.loop import EventLoop
from gateway.proxy.plan import Plan
from gateway.proxy.rehearsal import rehearse
from gateway.proxy.tls import TICKET_KEY_BYTES
from gateway.rules.view import Assumed

_STATES = {"unknown": UNKNOWN, "up": UP, "down": DOWN}
_ADMINS = {"ready": READY, "drain": DRAIN, "maintenance": MAINTENANCE}


class Stage:
    """The compiled form of a loaded site file. Nothing is known of the servers until `know` says so: all count as up.

    A context manager. Raises CapacityError or ValueError for a site that a worker could not work by.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.site = loaded.site
        self._snapshot = Snapshot.first(loaded)
        self._board = Board()
        self._loop = EventLoop()
        self._hub = Hub(self._loop.poller, self._board, 0)
        self._plan = Plan(self._hub, os.urandom(TICKET_KEY_BYTES))
        self._plan.apply(self._snapshot, 1, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.poller.stop()
        self._loop.close()

    def know(self, servers: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """Take over what is known of servers, by (backend, server): state, admin, weight, in_flight, load."""
        for key, facts in servers.items():
            slot = self._snapshot.slots.get(key)
            if slot is None:
                continue
            self._board.set_state(slot, _STATES[facts.get("state", "unknown")])
            self._board.set_admin(slot, _ADMINS[facts.get("admin", "ready")])
            self._board.set_weight(slot, float(facts.get("weight", 0.0)))
            self._board.set_load(slot, facts.get("load"))
            self._board.add_in_flight(slot, 0, int(facts.get("in_flight", 0)) - self._board.in_flight(slot))

    def assume(
        self, time: float | None = None, load: Mapping[str, float] | None = None, up: Mapping[str, int] | None = None
    ) -> None:
        """Let expressions see this time (seconds since 1970), and these loads and servers that are up."""
        view = self._hub.view
        view.clock = now if time is None else lambda: time
        known = Availability(self._plan.backends)
        view.resources = Assumed({**known.loads(), **(load or {})}, {**known.ups(), **(up or {})})

    def entrance(self, asked: Asked) -> tuple[FrontendModel, Listen]:
        """The frontend a request comes to: that of its port, or else the first that speaks its scheme, or the first."""
        places = [(frontend, listen) for frontend in self.site.frontends for listen in frontend.listen]
        fitting = [place for place in places if (place[0].tls is not None) == (asked.scheme == "https")]
        return next((place for place in fitting if place[1].port == asked.port), (fitting or places)[0])

    def rehearse(self, asked: Asked) -> dict[str, Any]:
        """What becomes of a request; see gateway.proxy.rehearsal."""
        model, listen = self.entrance(asked)
        found = rehearse(
            self._hub, self._plan.frontends[listen], str(listen), asked.head, asked.client,
            https=asked.scheme == "https",
        )  # fmt: skip
        if found.get("outcome") == "respond" and found["body"] is None:
            lines, found["body"] = self._hub.pages[found["status"]]
            found["lines"] = lines.decode() + found["lines"]
        return {"frontend": model.name, "listen": str(listen), **found}
