"""The faults of the soak test: applied to servers and the gateway during traffic."""

import asyncio
import copy
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.traffic import Results
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess

Site = dict[str, Any]

AFTERMATH = 2.0
"""Seconds until a fault has no effect any more: checks find the server up, connections are new."""
PAUSE = (2.0, 6.0)
"""Seconds between two faults."""


class Faults:
    """Chooses and causes faults, one at a time; `caused` counts them.

    Worker 0, control and the supervisor are left alone: their memory is watched.
    """

    def __init__(
        self, gateway: GatewayProcess, servers: list[BackendServer], results: Results, chance: random.Random
    ) -> None:
        self.caused: Counter[str] = Counter()
        self._gateway = gateway
        self._servers = servers
        self._results = results
        self._chance = chance
        self._site: Site = copy.deepcopy(dict(gateway.site))

    async def run(self, stop: asyncio.Event) -> None:
        """Cause faults until told to stop; everything runs again when it returns."""
        faults = (
            self._kill_server,
            self._kill_server,
            self._stop_server,
            self._kill_worker,
            self._reload,
            self._change_servers,
            self.change_workers,
            self._break_site,
            self._rotate_log,
        )
        while not stop.is_set():
            fault = self._chance.choice(faults)
            await fault()
            self.caused[fault.__name__.strip("_").replace("_", " ")] += 1
            await asyncio.sleep(self._chance.uniform(*PAUSE))
        await self._apply(self._site)

    def _disturb(self, seconds: float) -> None:
        self._results.until = max(self._results.until, time.monotonic() + seconds)

    async def _kill_server(self) -> None:
        server = self._chance.choice(self._servers)
        down = self._chance.uniform(0.1, 3.0)
        self._disturb(down + AFTERMATH + 2.0)
        server.kill()
        await asyncio.sleep(down)
        await asyncio.to_thread(server.start)
        self._disturb(AFTERMATH)

    async def _stop_server(self) -> None:
        """SIGSTOP: the server accepts connections and does not respond."""
        server = self._chance.choice(self._servers)
        stalled = self._chance.uniform(0.5, 4.0)
        self._disturb(stalled + AFTERMATH)
        os.kill(server.pid, signal.SIGSTOP)
        await asyncio.sleep(stalled)
        os.kill(server.pid, signal.SIGCONT)

    async def _kill_worker(self) -> None:
        workers = self._gateway.workers()
        if 1 in workers:
            self._disturb(AFTERMATH)
            self._gateway.kill(workers[1])

    async def _reload(self) -> None:
        await self._apply(self._site)

    async def _change_servers(self) -> None:
        changed = copy.deepcopy(self._site)
        changed["backends"]["app"]["servers"].pop(self._chance.randrange(len(self._servers)))
        await self._apply(changed)
        await asyncio.sleep(1.0)
        await self._apply(self._site)

    async def change_workers(self) -> None:
        """Run one more worker for a second."""
        await self._apply(self._site | {"workers": 3})
        await asyncio.sleep(1.0)
        await self._apply(self._site)

    async def _break_site(self) -> None:
        good = self._gateway.path.read_text()
        await asyncio.to_thread(self._gateway.reload, good.replace("routes:", "routs:"), "reload refused")
        self._gateway.path.write_text(good)

    async def _rotate_log(self) -> None:
        path = Path(self._site["access_log"]["path"])
        await asyncio.to_thread(path.replace, path.with_suffix(".1"))
        self._gateway.process.send_signal(signal.SIGUSR1)

    async def _apply(self, site: Site) -> None:
        await asyncio.to_thread(self._gateway.reload, site, "reloaded: ")
