"""Rates and sessions over the gateways of a cluster: each tells the others what it has let through."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from math import ceil
from typing import Final

from gateway.config.snapshot import Snapshot
from gateway.control.news import BadNews, Codec, News
from gateway.control.tasks import keep_running, stop
from gateway.load.refusals import Refusals
from gateway.reports import ShareReport
from qos.rates import RateTable
from qos.sessions import SessionTable
from qos.shares import Shares

EVERY: Final = 0.1
"""Seconds between two messages."""
HOLDS: Final = 10.0
"""Seconds for which workers keep to a share if control says nothing more: longer than its restart takes."""
AT_ONCE: Final = 20_000
"""Keys in one round of messages; of a flood of keys, the rest waits for the next round."""

_log = logging.getLogger("gateway.control")


class Exchange:
    """Tells and hears, by the newest snapshot. `send`: to the other nodes of the cluster."""

    def __init__(self, rates: RateTable, sessions: SessionTable, send: Callable[[bytes], None]) -> None:
        self._rates = rates
        self._sessions = sessions
        self._send = send
        self._codec: Codec | None = None
        self._known: tuple[object, ...] = ()
        self._shares: Shares | None = None
        self._snapshot: Snapshot | None = None
        self._share: int | None = None
        self._untold: dict[int, int] = {}
        self._heard: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._refusals = Refusals("sessions and rates", _log)
        self.refused = self._refusals.counts

    def apply(self, snapshot: Snapshot) -> None:
        """Follow a snapshot."""
        self._snapshot = snapshot
        cluster = snapshot.site.cluster
        node = snapshot.site.node
        if cluster is None or cluster.listen is None:
            self._follow((), None, None)
        else:
            key = snapshot.files[cluster.key_file].strip()
            known = node, tuple(cluster.nodes), key
            self._follow(known, Codec(key), Shares(node, cluster.nodes, time.monotonic()))
        if self._task is None:
            self._task = asyncio.create_task(keep_running("telling other gateways of sessions and rates", self._run))

    def _follow(self, known: tuple[object, ...], codec: Codec | None, shares: Shares | None) -> None:
        """Begin anew if nodes or key are others than before."""
        if known != self._known:
            self._known, self._codec, self._shares = known, codec, shares
            self._tell_workers(None)

    def hear(self, data: bytes, source: str) -> None:
        """Take a message from an address."""
        if self._codec is None or self._shares is None:
            return
        try:
            news = self._codec.decode(data, time.time_ns())
        except BadNews as error:
            self._refusals.note(str(error), str(error), source)
            return
        self._heard[news.node] += 1
        now = time.monotonic_ns()
        self._shares.hear(news.node, news.live, news.wanting, now * 1e-9)
        for key, ticks in news.used:
            self._rates.advance(key, ticks, now)

    def report(self) -> ShareReport | None:
        """What `gateway status` shows; None: it is alone."""
        if self._shares is None:
            return None
        silent = tuple(self._shares.silent(time.monotonic()))
        return ShareReport(share=self._share, silent=silent, heard=dict(self._heard))

    async def close(self) -> None:
        """Tell and hear no more."""
        if self._task is not None:
            await stop([self._task])

    async def _run(self) -> None:
        while True:
            self._round(time.monotonic_ns())
            await asyncio.sleep(EVERY)

    def _round(self, now: int) -> None:
        """Say what there is, and divide what is free."""
        if self._codec is None or self._shares is None or self._snapshot is None:
            return
        site = self._snapshot.site
        live = wanting = 0
        model = site.qos.sessions
        if model is not None:
            refresh = ceil(model.waiting_room.refresh) if model.waiting_room is not None else 1
            live, wanting, adopted = self._sessions.counts(now, most=model.max, idle=ceil(model.idle), refresh=refresh)
            self._shares.say(live, wanting, adopted, now * 1e-9)
        for key, ticks in self._rates.news().items():
            self._untold[key] = self._untold.get(key, 0) + ticks
        told = [*self._untold.items()][:AT_ONCE]
        self._untold = dict([*self._untold.items()][AT_ONCE : 10 * AT_ONCE])
        for message in self._codec.encode(News(site.node, live, wanting, tuple(told)), time.time_ns()):
            self._send(message)
        if model is not None and model.max:  # what `auto` measures is of this gateway alone
            self._tell_workers(self._shares.share(model.max, model.idle, now * 1e-9))
        elif self._share is not None:
            self._tell_workers(None)

    def _tell_workers(self, share: int | None) -> None:
        """How many sessions they may have; None: as the site file says."""
        self._share = share
        until = time.monotonic_ns() + round(HOLDS * 1e9) if share is not None else 0
        self._sessions.set_share(share or 0, until)
