"""Passive checks and slow starts of a site: from the workers' figures on the Board to ejections and shares."""

import logging
import statistics
from collections.abc import Callable, Mapping
from typing import Final

from gateway.balance import estimate
from gateway.board import DOWN, DRAIN, IN_ROTATION, OUT, PROBED, READY, Board
from gateway.config.model import Backend
from gateway.config.snapshot import ServerKey, Snapshot
from gateway.health.outlier import Ejection, Outliers, Rules, Seen
from gateway.load.ramp import Ramp, Strain

LOOK_EVERY: Final = 0.1  # seconds
SAY_EVERY: Final = 5.0
_ON_BOARD: Final = {Ejection.IN_ROTATION: IN_ROTATION, Ejection.OUT: OUT, Ejection.PROBED: PROBED}
_log = logging.getLogger("gateway.control")


class Watchdog:
    """Ejects servers and lets them return with a slow start. Times are in seconds of the monotonic clock."""

    def __init__(self, board: Board, load: Callable[[ServerKey], float | None]) -> None:
        self._board = board
        self._load = load  # as reported
        self._backends: Mapping[str, Backend] = {}
        self._slots: Mapping[ServerKey, int] = {}
        self._workers = 1
        self._outliers: dict[str, Outliers] = {}
        self._states: dict[ServerKey, Ejection] = {}
        self._serving: dict[ServerKey, bool] = {}
        self._ramps: dict[ServerKey, Ramp] = {}
        self._left: dict[ServerKey, tuple[float, int]] = {}  # of a draining server: time of the last count, sessions
        self._first = True
        self._keeping: frozenset[str] = frozenset()

    def apply(self, snapshot: Snapshot) -> None:
        """Follow a snapshot. Servers that it adds start slowly; those of the first snapshot do not."""
        before = self._slots
        self._backends = snapshot.site.backends
        self._keeping = snapshot.site.keeping
        self._slots = snapshot.slots
        self._workers = snapshot.site.workers
        self._outliers = {name: self._outliers.get(name) or Outliers() for name in self._backends}
        same = {key for key, slot in self._slots.items() if before.get(key) == slot}
        self._states = {key: state for key, state in self._states.items() if key in same}
        self._ramps = {key: ramp for key, ramp in self._ramps.items() if key in same}
        serving = self._serving
        self._serving = {key: serving.get(key, False) if key in same else self._first for key in self._slots}
        self._left = {key: left for key, left in self._left.items() if key in same}
        self._first = False

    def tick(self, now: float) -> None:
        """Judge every server, and write the results to the Board."""
        for backend in self._backends.values():
            seen = {server.name: self._see((backend.name, server.name), now) for server in backend.servers}
            self._eject(backend, seen, now)
            self._start_slowly(backend, seen, now)
            if backend.name in self._keeping:
                self._count_down(backend, now)

    def _count_down(self, backend: Backend, now: float) -> None:
        """Log how many sessions a draining server has left, when that changes."""
        for server in backend.servers:
            key = backend.name, server.name
            if self._board.admin(self._slots[key]) != DRAIN:
                self._left.pop(key, None)
                continue
            said, left = self._left.get(key, (float("-inf"), -1))
            if now - said >= SAY_EVERY:
                sessions = self._board.sessions(self._slots[key], round(now * 1e9))
                if sessions != left:
                    _log.info(
                        ("server %s/%s is draining: about %d sessions of the last ten minutes left"), *key, sessions
                    )
                self._left[key] = now, sessions

    def _see(self, key: ServerKey, now: float) -> Seen:
        board, slot = self._board, self._slots[key]
        seconds = estimate.expected(board, slot, self._workers, round(now * 1e9), board.in_flight(slot))
        return Seen(
            board.streak(slot, self._workers),
            seconds or None,
            board.requests(slot) - board.failures(slot),
            board.state(slot) != DOWN and board.admin(slot) == READY,
        )

    def _eject(self, backend: Backend, seen: Mapping[str, Seen], now: float) -> None:
        model = backend.outlier
        if model is None:
            for name in seen:
                self._board.set_ejected(self._slots[backend.name, name], IN_ROTATION)
                self._states.pop((backend.name, name), None)
            return
        rules = Rules(model.errors, model.latency_factor, model.eject_for, model.max_ejected, model.panic)
        for name, (state, why) in self._outliers[backend.name].judge(rules, seen, now).items():
            key = backend.name, name
            self._board.set_ejected(self._slots[key], _ON_BOARD[state])
            if self._states.get(key, Ejection.IN_ROTATION) is not state:
                level = logging.WARNING if state is Ejection.OUT else logging.INFO
                _log.log(level, "server %s/%s is %s%s", *key, state.value, f": {why}" if why else "")
            self._states[key] = state

    def _start_slowly(self, backend: Backend, seen: Mapping[str, Seen], now: float) -> None:
        for name, item in seen.items():
            key = backend.name, name
            serving = item.up and self._states.get(key) is not Ejection.OUT
            came, self._serving[key] = serving and not self._serving[key], serving
            if backend.slow_start is None or not serving:
                self._ramps.pop(key, None)
            elif came:
                self._ramps[key] = Ramp(backend.slow_start, now)
                _log.info("server %s/%s begins its slow start", *key)
            ramp = self._ramps.get(key)
            share = ramp.advance(now, self._strain(backend.name, name, seen)) if ramp else 1.0
            if ramp and share >= 1.0:
                del self._ramps[key]
                _log.info("server %s/%s has finished its slow start", *key)
            self._board.set_ramp(self._slots[key], share if share < 1.0 else 0.0)

    def _strain(self, backend: str, name: str, seen: Mapping[str, Seen]) -> Strain:
        others = [other for other in seen if other != name and seen[other].up and (backend, other) not in self._ramps]
        times = [seconds for other in others if (seconds := seen[other].seconds)]
        loads = [load for other in others if (load := self._load((backend, other))) is not None]
        return Strain(
            seen[name].seconds,
            statistics.median(times) if times else None,
            self._load((backend, name)),
            statistics.median(loads) if loads else None,
        )
