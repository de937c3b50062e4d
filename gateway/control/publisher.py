"""Turns reports and counters into the effective weights and admin states on the Board."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.board import DOWN, DRAIN, MAINTENANCE, READY, UNKNOWN, UP, Board
from gateway.config.model import Backend
from gateway.config.overrides import NOTHING, Override
from gateway.config.snapshot import ServerKey, Snapshot
from gateway.health.agent import Line
from gateway.load.admin_state import NAMES, NUMBERS, decide, reported
from gateway.load.meter import Meter
from gateway.load.weights import Observation, approach, shares, targets
from loadagent.report import Report, State

_log = logging.getLogger("gateway.control")

_ADMIN = {State.READY: READY, State.DRAIN: DRAIN, State.MAINTENANCE: MAINTENANCE}
_SETTLED = 0.001  # a weight this close to its target, relatively, is set to it


@dataclass(slots=True)
class _Row:
    """One server: its row on the Board, its configured weight, and its data."""

    name: str
    slot: int
    configured: float
    weight: float  # effective
    meter: Meter
    fresh: bool = False
    share: float | None = None  # of the configured weight, by the text agent's last line
    up: bool = True  # likewise
    agent: int = READY
    """The admin state that its agent reports."""
    idle: bool = False
    """Its text agent wants no new requests."""
    override: Override = NOTHING
    spent: bool = False
    """Its agent has reported something else than what the override overrules."""


class Publisher:
    """Computes the weights of the newest snapshot. Times are in seconds of the monotonic clock, as the workers'."""

    def __init__(self, board: Board, now: float) -> None:
        self._board = board
        self._now = now
        self._backends: Mapping[str, Backend] = {}
        self._rows: dict[ServerKey, _Row] = {}
        self._inherits = True

    def apply(self, snapshot: Snapshot) -> None:
        """Follow a snapshot. Servers that stay keep their data.

        The first snapshot of this process adopts the values on the Board, because another control process may have run
        before; a server that a later snapshot adds starts without data.
        """
        rows = {}
        for backend in snapshot.site.backends.values():
            for server in backend.servers:
                key = backend.name, server.name
                slot = snapshot.slots[key]
                row = self._rows.get(key)
                if row is None or row.slot != slot:
                    override = snapshot.overrides.server(*key)
                    row = self._row("/".join(key), slot, snapshot.weight(key[0], server), override)
                row.configured = snapshot.weight(key[0], server)
                rows[key] = row
                self._obey(row, snapshot.overrides.server(*key))
        self._rows = rows
        self._backends = snapshot.site.backends
        self._inherits = False

    def hear(self, key: ServerKey, report: Report, now: float) -> None:
        """Process a report about a server of the snapshot."""
        row = self._rows[key]
        row.meter.hear(report.score, now, self._backends[key[0]].agent.stale_after)
        # Silence changes no admin state: a server in maintenance does not return because its agent stopped.
        self._put(row, report.state)

    def hear_line(self, key: ServerKey, line: Line, now: float) -> None:
        """Process a line of a server's text agent."""
        row, board = self._rows[key], self._board
        if line.share is not None:
            # The share that the agent does not accept counts as load; used raw, because the agent decides.
            row.share = line.share
            row.meter.hear(max(0.0, 1.0 - line.share), now, self._backends[key[0]].agent.stale_after)
            row.idle = line.share == 0
        if line.limit is not None and line.limit != board.limit(row.slot):
            board.set_limit(row.slot, line.limit)
            _log.info("server %s: its agent limits it to %d requests", row.name, line.limit)
        if line.admin is not None:
            self._put(row, line.admin)
        else:
            self._heard(row)
            self._set_admin(row)
        if line.up is not None:
            board.set_told(row.slot, UP if line.up else DOWN)
            before, row.up = row.up, line.up
            if before is not line.up:
                reason = f": {line.reason}" if line.reason else ""
                level = logging.INFO if line.up else logging.WARNING
                _log.log(level, "server %s: its agent reports %s%s", row.name, "UP" if line.up else "DOWN", reason)

    def forget_agent(self, key: ServerKey, *, asked: bool) -> None:
        """Discard what the text agent of a server reported that has none; `asked`: it had one until now."""
        row = self._rows[key]
        row.idle = False
        if asked:
            row.agent = READY
        self._set_admin(row)

    def _put(self, row: _Row, state: State) -> None:
        """Note the admin state that an agent reports."""
        changed = _ADMIN[state] != row.agent
        row.agent = _ADMIN[state]
        self._heard(row)
        self._set_admin(row)
        if changed:
            admin = self._board.asked(row.slot)
            stays = f"; by command it is {NAMES[admin].upper()}" if admin != row.agent else ""
            _log.info("server %s: its agent reports %s%s", row.name, state.name, stays)

    def _obey(self, row: _Row, override: Override) -> None:
        """Note what an operator's command has set."""
        before, row.override = row.override, override
        if override != before:
            row.spent = False
            what = f"{override.state.upper()} by command" if override.state else "no admin state by command any more"
            if override.state != before.state:
                _log.info("server %s: %s", row.name, what)
        self._set_admin(row)

    def _heard(self, row: _Row) -> None:
        """Let an override end that overrules something else than what the agent reports now."""
        overruled = row.override.overrules
        row.spent = row.spent or (overruled is not None and overruled != reported(row.agent, idle=row.idle))

    def _set_admin(self, row: _Row) -> None:
        """Publish the admin state."""
        override = NOTHING if row.spent else row.override
        admin, idle = decide(override, row.agent, idle=row.idle)
        self._board.set_idle(row.slot, idle)
        self._board.set_admin(row.slot, admin)

    def load(self, key: ServerKey) -> float | None:
        """The load that a server reports; None if there is no recent report, or the server is unknown."""
        row = self._rows.get(key)
        return None if row is None else row.meter.load(self._now, self._backends[key[0]].agent.stale_after)

    def tick(self, now: float) -> None:
        """Compute and publish all weights."""
        elapsed = now - self._now
        self._now = now
        for row in self._rows.values():
            row.meter.count(self._board.requests(row.slot), self._board.failures(row.slot), elapsed)
        for backend in self._backends.values():
            if backend.agent.orca:
                self._hear_answers(backend, round((now - elapsed) * 1e9))
            rows = [self._rows[backend.name, server.name] for server in backend.servers]
            observations = [self._observe(row, backend.agent.stale_after) for row in rows]
            measured = backend.balance == "measured" and backend.agent.connect is None
            if backend.agent.connect is not None:
                wanted = shares([(row.configured, row.share if row.fresh else None) for row in rows])
            else:
                wanted = targets(observations) if measured else [row.configured for row in rows]
            for row, target in zip(rows, wanted, strict=True):
                row.weight = approach(row.weight, target, elapsed)
                if not measured or abs(row.weight - target) < _SETTLED * target:
                    row.weight = target
                self._board.set_weight(row.slot, row.weight)

    def _hear_answers(self, backend: Backend, since: int) -> None:
        """Process the loads in servers' responses after `since` (ns)."""
        for server in backend.servers:
            row = self._rows[backend.name, server.name]
            load = self._board.said(row.slot, since)
            if load is not None:
                row.meter.hear(load, self._now, backend.agent.stale_after)

    def _row(self, name: str, slot: int, configured: float, override: Override) -> _Row:
        board = self._board
        if not self._inherits:
            board.set_state(slot, UNKNOWN)
        weight = (self._inherits and board.weight(slot)) or configured
        row = _Row(name, slot, configured, weight, Meter(board.requests(slot), board.failures(slot)), override=override)
        asked = board.asked(slot)
        by_agent = override.state is None or (override.state != "ready" and asked != NUMBERS[override.state])
        if self._inherits and by_agent:
            row.agent = asked
            row.idle = asked == READY and board.admin(slot) == DRAIN
        return row

    def _observe(self, row: _Row, stale_after: float) -> Observation:
        load = row.meter.load(self._now, stale_after)
        if row.fresh and load is None:
            _log.warning("server %s: no load report for %g s; its weight returns to neutral", row.name, stale_after)
        row.fresh = load is not None
        self._board.set_load(row.slot, load)
        idle = self._board.state(row.slot) == DOWN or self._board.admin(row.slot) != READY
        return row.meter.observe(row.configured, None if idle else load)
