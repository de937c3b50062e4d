"""All active checks of a site: one watch and one task for each server that has a check."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from gateway.board import UNKNOWN, Board
from gateway.config.address import other_localhost
from gateway.config.files import SYSTEM_CAS
from gateway.config.loader import Endpoint
from gateway.config.model import Backend, Check, Server
from gateway.config.snapshot import ServerKey, Snapshot
from gateway.control.tasks import keep_running, replan, stop
from gateway.health.probe import Probe, Target
from gateway.health.result import Result
from gateway.health.tls import Tls
from gateway.health.watch import Watch
from gateway.wire.proxy_protocol import local

_Plan = tuple[Target, Check]
Pairs = Mapping[tuple[Path, Path], tuple[bytes, bytes]]
"""Certificates to show to servers with their keys, PEM, by the files that they came from."""
NO_PAIRS: Pairs = {}


class Checks:
    """Runs the checks of the newest snapshot."""

    def __init__(self, board: Board, probe: Probe, doubt: Callable[[ServerKey], None] = lambda _: None) -> None:
        self._board = board
        self._probe = probe
        self._doubt = doubt  # called for a server whose results contradict its state, or whose state has changed
        self._watches: dict[ServerKey, Watch] = {}
        self._running: dict[ServerKey, tuple[_Plan, asyncio.Task[None]]] = {}

    async def apply(self, snapshot: Snapshot, pairs: Pairs = NO_PAIRS) -> None:
        """Follow a snapshot: unchanged checks continue with their counts, the others stop or start."""
        plans = _plans(snapshot, pairs)
        await replan(self._running, plans, self._start)
        self._watches = {key: watch for key, watch in self._watches.items() if key in plans}
        for key, slot in snapshot.slots.items():
            if key not in plans:
                self._board.set_state(slot, UNKNOWN)

    def hurry(self, key: ServerKey) -> None:
        """Check a server at once, if it has a check."""
        if key in self._watches:
            self._watches[key].hurry()

    def last(self) -> dict[ServerKey, Result]:
        """The last result of each server; servers not checked yet are omitted."""
        found = ((key, watch.last) for key, watch in self._watches.items())
        return {key: last for key, last in found if last is not None}

    async def _start(self, key: ServerKey, plan: _Plan) -> None:
        target, check = plan
        watch = self._watches[key] = Watch(target, check, self._board, partial(self._doubt, key))
        await keep_running(f"checking {target.name}", partial(watch.run, self._probe.check))

    async def close(self) -> None:
        """Stop all checks; the Board keeps the states."""
        await stop([task for _, task in self._running.values()])
        self._running.clear()


def _other(server: Server, resolved: Endpoint) -> tuple[str, int] | None:
    """The alternative address: the other one of localhost, as for requests."""
    if server.address.is_localhost and isinstance(resolved, tuple):
        return other_localhost(resolved[0]), resolved[1]
    return None


def _tls(snapshot: Snapshot, pairs: Pairs, backend: Backend, server: Server) -> Tls | None:
    """How its checks speak TLS; where requests go by the name that clients use, they go by the check's Host."""
    tls = backend.tls_of_check(server)
    if tls is None or backend.check is None:
        return None
    name = tls.name_for(server.address)
    if name is None:
        name = urlsplit(f"//{backend.check.asked_host or ''}").hostname or server.address.host
    cas = snapshot.files[tls.ca or SYSTEM_CAS] if tls.verify else None
    pair = pairs[tls.certificate.cert, tls.certificate.key] if tls.certificate is not None else None
    return Tls(name, cas, tls.min_version, pair)


def _plans(snapshot: Snapshot, pairs: Pairs) -> dict[ServerKey, _Plan]:
    plans = {}
    for backend in snapshot.site.backends.values():
        if backend.check is None:
            continue
        for server in backend.servers:
            key = backend.name, server.name
            host = str(server.address) if server.address.kind == "tcp" else "localhost"
            where, check = snapshot.resolved[key], backend.check
            if check.port is not None and isinstance(where, tuple):
                where = where[0], check.port
            greeting = local(backend.proxy_version) if backend.proxy_version and check.port is None else b""
            target = Target(
                "/".join(key),
                snapshot.slots[key],
                where,
                host,
                _other(server, where),
                _tls(snapshot, pairs, backend, server),
                greeting,
            )
            plans[key] = target, check
    return plans
