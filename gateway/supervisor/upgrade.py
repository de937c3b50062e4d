"""An upgrade as the old supervisor sees it: it starts its successor, and goes on if that fails (handover.py)."""

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable

from gateway.board import DOWN, DRAIN, MAINTENANCE, READY, UNKNOWN, UP, Board, layout
from gateway.config import Snapshot
from gateway.config.snapshot import ServerKey
from gateway.supervisor import handover
from gateway.supervisor.children import GRACE, ending
from gateway.supervisor.handover import HandedCounters, HandedServer, Successor
from gateway.supervisor.sockets import Sockets

log = logging.getLogger(__name__)

STATES = frozenset((UNKNOWN, UP, DOWN))
ADMIN_STATES = frozenset((READY, DRAIN, MAINTENANCE))


class Upgrade:
    """One attempt at a time. `command` starts a successor; `failed` is called for each attempt that fails."""

    def __init__(self, selector: selectors.BaseSelector, command: list[str], failed: Callable[[], None]) -> None:
        self._selector = selector
        self._command = command
        self._note_failure = failed
        self._successor: Successor | None = None
        self._why = ""

    @property
    def under_way(self) -> bool:
        """Whether there is a successor, or one that failed and has not ended yet."""
        return self._successor is not None

    @property
    def deadline(self) -> float:
        """When `keep_time` has something to do next, time.monotonic(); infinite if never."""
        return self._successor.deadline if self._successor is not None else float("inf")

    def close(self) -> None:
        """Close the pipe, in a process that is forked meanwhile."""
        if self._successor is not None:
            self._successor.close()

    def start(self, sockets: Sockets, servers: Iterable[HandedServer], sessions: int, counters: HandedCounters) -> str:
        """Start a successor, which reports when it carries the traffic; return why that failed, or an empty text.

        sessions: the descriptor of their memory.
        """
        why = ""
        if self._successor is not None:
            why = "one is under way"
        elif not self._command:
            why = "this gateway was not started by `gateway run`"
        if why:
            log.error("upgrade refused: %s", why)
            return why
        try:
            successor = handover.start(self._command, sockets, servers, sessions, counters)
        except OSError as error:
            why = f"cannot run {self._command[0]}: {error}"
            log.error("upgrade failed: %s", why)
            return why
        self._successor = successor
        self._selector.register(successor, selectors.EVENT_READ, successor)
        log.info("upgrade: a new gateway starts, pid %d", successor.pid)
        return ""

    def hear(self, drain: float) -> int | None:
        """Take the successor's answer; its process id as soon as it carries traffic. `drain`: see `give_up`."""
        successor = self._successor
        if successor is None:
            return None
        answer = successor.hear()
        if answer == handover.READY:
            self._hang_up(successor)
            self._successor = None
            successor.launcher.leave()
            return successor.pid
        if answer:
            self.give_up(answer, drain)
        elif answer is not None:
            self._hang_up(successor)  # how it ended is known in a moment
        return None

    def give_up(self, why: str, drain: float) -> None:
        """The successor failed, or must stop: it has `drain` seconds to finish requests that it may have accepted."""
        successor = self._successor
        if successor is None or successor.failed:
            return
        self._hang_up(successor)
        successor.failed = True
        successor.deadline = time.monotonic() + drain + 2 * GRACE
        self._fail(why)
        with contextlib.suppress(ProcessLookupError):
            os.kill(successor.pid, signal.SIGTERM)

    def keep_time(self, now: float, drain: float) -> None:
        """Give up a successor that is not ready in time, and kill one that does not end then."""
        successor = self._successor
        if successor is None or successor.deadline > now:
            return
        if successor.failed:
            successor.deadline = float("inf")
            with contextlib.suppress(ProcessLookupError):
                os.kill(successor.pid, signal.SIGKILL)
        else:
            self.give_up(f"it was not ready within {handover.TIMEOUT:g}s", drain)

    def reaped(self, pid: int, status: int) -> str:
        """Take note of a process that has ended; return why the upgrade failed if it was the successor's launcher.

        What a successor said before counts more than how it ended.
        """
        successor = self._successor
        if successor is None or pid != successor.launcher.pid:
            return ""
        said = successor.hear() if successor.fileno() >= 0 else None
        self._hang_up(successor)
        if not successor.failed:
            self._fail(said if said and said != handover.READY else f"it {ending(status)}")
        self._successor = None
        return self._why

    def _fail(self, why: str) -> None:
        self._why = why
        log.error("upgrade failed: %s", why)
        self._note_failure()

    def _hang_up(self, successor: Successor) -> None:
        if successor.fileno() >= 0:
            self._selector.unregister(successor)
            successor.close()


def handed_servers(board: Board, snapshot: Snapshot) -> list[HandedServer]:
    """What the board says of all servers, but for what no honest process writes there."""
    found = [_handed(board, snapshot, key, row) for key, row in snapshot.slots.items()]
    return [server for server in found if server is not None]


def _handed(board: Board, snapshot: Snapshot, key: ServerKey, row: int) -> HandedServer | None:
    try:
        return HandedServer(
            backend=key[0],
            server=key[1],
            endpoint=str(snapshot.resolved[key]),
            state=board.state(row),
            admin=board.asked(row),
            weight=board.weight(row),
        )
    except ValueError:
        log.error("upgrade: the board is wrong about %s: its state is not passed on", "/".join(key))
        return None


def adopt(servers: Iterable[HandedServer], board: Board, snapshot: Snapshot) -> None:
    """Write to the board what the predecessor's says about servers that are still the same."""
    for server in servers:
        key = (server.backend, server.server)
        row = snapshot.slots.get(key)
        known = server.state in STATES and server.admin in ADMIN_STATES  # another version may have more
        if row is not None and known and str(snapshot.resolved[key]) == server.endpoint:
            board.set_state(row, server.state)
            board.set_admin(row, server.admin)
            board.set_weight(row, server.weight)


def handed_counters(board: Board, snapshot: Snapshot, events: dict[str, dict[str, int]]) -> HandedCounters:
    """The board itself: this gateway goes on counting there until its last request has ended."""
    return HandedCounters(
        layout=layout(),
        board=board.fd,
        elder=board.elder_fd if board.elder_fd >= 0 else None,
        servers=tuple((*key, row) for key, row in snapshot.slots.items()),
        traffic=tuple((*key, row) for key, row in snapshot.traffic.items()),
        events=events,
    )


def adopt_counters(counters: HandedCounters, board: Board, snapshot: Snapshot) -> None:
    """Go on with what the gateways before have counted, if their boards can be read.

    The board of the one before the last is closed: what is still counted there is lost.
    """
    try:
        if counters.layout != layout():
            raise ValueError("it is of another version")
        elder = Board(counters.board)
        eldest = Board(counters.elder) if counters.elder is not None else None
        servers = {(backend, server): row for backend, server, row in counters.servers}
        traffic = {(kind, name): row for kind, name, row in counters.traffic}
        board.adopt(
            elder,
            eldest,
            [(row, servers[key]) for key, row in snapshot.slots.items() if key in servers],
            [(row, traffic[key]) for key, row in snapshot.traffic.items() if key in traffic],
        )
    except (OSError, ValueError, IndexError) as error:
        log.warning(
            "upgrade: counters of metrics begin at 0, as the board of the gateway before cannot be read: %s", error
        )
        os.close(counters.board)
    if counters.elder is not None:
        os.close(counters.elder)
