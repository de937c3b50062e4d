"""A site as a worker would have it, but without clients and servers: requests are only decided on."""

from time import time as now
from typing import Any, Protocol, Self

from gateway.board import WORKERS, Board
from gateway.config.expectation import Assumption
from gateway.config.loader import Loaded
from gateway.config.model import Frontend as FrontendModel
from gateway.config.model import Listen
from gateway.config.snapshot import Snapshot
from gateway.explain.asked import Asked
from gateway.explain.decision import decision_on
from gateway.proxy.availability import Availability
from gateway.proxy.loop import EventLoop
from gateway.proxy.plan import Plan
from gateway.proxy.worker_context import WorkerContext
from gateway.rules.view import Assumed
from gateway.secrets.vault import Secrets


class Running(Protocol):
    """A running gateway: its board, and the snapshot that it would use if it loaded a site file now."""

    @property
    def board(self) -> Board:
        """Its board, as it is at any time."""
        ...

    def snapshot(self, loaded: Loaded) -> Snapshot:
        """The snapshot. Raises CapacityError."""
        ...


class Sandbox:
    """The compiled form of a loaded site file, with what `live` knows of its servers; without, all count as up.

    A context manager. Raises CapacityError or ValueError for a site that a worker could not use.
    """

    def __init__(self, loaded: Loaded, live: Running | None = None) -> None:
        snapshot = Snapshot.first(loaded) if live is None else live.snapshot(loaded)
        self.site = snapshot.site
        self._places = loaded.routes_at
        self._loop = EventLoop()
        self._context = WorkerContext(self._loop.poller, Board() if live is None else live.board, 0)
        self._plan = Plan(self._context)
        self._plan.apply(snapshot, Secrets.read(loaded, pairs=False), 1 if live is None else WORKERS, None)
        self._assumed: Assumption | None = None if live is not None else Assumption()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.poller.stop()
        self._loop.close()

    def assume(self, assumption: Assumption) -> None:
        """Let expressions see this; everything else keeps its value."""
        view = self._context.view
        self._assumed = assumption
        if self._context.gate is not None:
            self._context.gate.assumed = (
                assumption.ticket, assumption.live, assumption.waiting, assumption.place - 1,
            )  # fmt: skip
        time = assumption.time
        view.clock = now if time is None else lambda: time
        loads, ups = Availability(self._plan.backends, self._context.board).facts()
        view.resources = Assumed(
            {**loads, **assumption.load},
            {**ups, **assumption.up},
            assumption.sessions,
            assumption.site_load,
            assumption.spill,
        )

    def entrance(self, asked: Asked) -> tuple[FrontendModel, Listen]:
        """The frontend a request comes to: that of its port, or else the first that speaks its scheme, or the first."""
        places = [(frontend, listen) for frontend in self.site.frontends for listen in frontend.listen]
        fitting = [place for place in places if (place[0].tls is not None) == (asked.scheme == "https")]
        return next((place for place in fitting if place[1].port == asked.port), (fitting or places)[0])

    def _verified(self, model: FrontendModel) -> bool:
        """Whether the client is assumed to show a certificate that this frontend asks for, and finds valid."""
        asks = model.tls is not None and model.tls.client_ca is not None
        return asks and self._assumed is not None and self._assumed.client_cert

    def decide(self, asked: Asked) -> dict[str, Any]:
        """The decision on a request; see gateway.explain.decision. Routes also have `at`, their file and line."""
        model, listen = self.entrance(asked)
        found = decision_on(
            self._context, self._plan.frontends[listen], listen.authority, asked.head, asked.client,
            https=asked.scheme == "https", assumed=self._assumed, verified=self._verified(model),
        )  # fmt: skip
        for route in found.get("routes", ()):
            route["at"] = self._places[route["route"]]
        return {"frontend": model.name, "listen": str(listen), **found}
