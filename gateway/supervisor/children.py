"""The life of a child: fork, confinement, reports, orders, death, and the start of the next one."""

import contextlib
import logging
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.hardening import kernel
from gateway.hardening.confinement import Bounds, settle
from gateway.process.bulletin import Bulletin
from gateway.process.channel import BadReport, ChildEnd, Closed, Drain, Order, Report, SupervisorEnd, pair
from gateway.process.child import CannotStart, ChildContext
from gateway.supervisor.roles import Role
from gateway.system import crash_report

log = logging.getLogger(__name__)

QUICK: Final = 1.0
"""Seconds: a child that lives shorter than this is not started again at once."""
SLOWEST_RESTART: Final = 5.0
GRACE: Final = 2.0
"""Seconds beyond `drain` until a child that does not end is killed."""
BEGINS_IN: Final = 10.0
"""The same for one that has not begun to work: on a busy machine it takes seconds to load what it needs."""
LAST_WORDS: Final = 0.5
"""Seconds that a child which does not end has to say where it hangs, before SIGKILL."""

Place: TypeAlias = tuple[Role, int]
"""In the tree: a role and a number."""
MakeContext: TypeAlias = Callable[[Role, int, ChildEnd], ChildContext]


@dataclass(slots=True)
class Child:
    """A process of the tree."""

    role: Role
    number: int
    pid: int
    channel: SupervisorEnd
    born: float
    version: int = 0
    """Of the site file that it works by."""
    retiring: bool = False
    abort_at: float = float("inf")
    """When it gets SIGABRT, to log where it hangs, if it has not ended by then."""
    kill_at: float = float("inf")
    """When it is not asked any more."""

    @property
    def name(self) -> str:
        """As in the log."""
        return self.role.title(self.number)

    @property
    def place(self) -> Place:
        """Where it is in the tree."""
        return self.role, self.number


class Children:
    """All processes of the tree, and when the next ones start instead of those that died.

    `make_context` is called in the new process; it closes what is not for it. `bulletins`: of processes, by name.
    """

    def __init__(
        self, selector: selectors.BaseSelector, bulletins: Mapping[str, Bulletin], make_context: MakeContext
    ) -> None:
        self._selector = selector
        self._bulletins = bulletins
        self._make_context = make_context
        self._children: dict[int, Child] = {}  # by process id
        self._failures: dict[Place, int] = {}
        self.due: dict[Place, float] = {}
        """When the next process is to start, time.monotonic()."""

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._children.values()))

    def __len__(self) -> int:
        return len(self._children)

    @property
    def traffic(self) -> list[Child]:
        """Those that carry traffic."""
        return [child for child in self if child.role.traffic]

    # ---------------------------------------------------------------------------------------------------------- birth

    def start(self, role: Role, number: int) -> Child:
        """Fork a process."""
        ours, theirs = pair()
        sys.stdout.flush()
        sys.stderr.flush()
        with self._bulletins[role.title(number)].handed_on() if role.bulletin else contextlib.nullcontext():
            pid = os.fork()
        if pid == 0:
            self._become(role, number, ours, theirs)
        theirs.close()
        child = Child(role, number, pid, ours, time.monotonic())
        self._children[pid] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        log.info("%s started, pid %d", child.name, pid)
        return child

    def _become(self, role: Role, number: int, ours: SupervisorEnd, theirs: ChildEnd) -> None:
        """The child's side of a fork; never returns."""
        status = 1
        title = role.title(number)
        try:
            crash_report.enable(title)
            signal.set_wakeup_fd(-1)
            for caught in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(caught, signal.SIG_DFL)
            for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                signal.signal(ignored, signal.SIG_IGN)  # terminals and `kill` send these to the whole group
            ours.close()  # these would hide that their owner died
            for child in self:
                child.channel.close()
            self._selector.close()
            self._children.clear()
            context = self._make_context(role, number, theirs)
            kernel.set_name(f"gw-{title.replace(' ', '-')}")
            work = role.prepare(context)
            if not role.confines_itself:
                settle(context.account, role.privileges, Bounds.of(context.snapshot.site))
            work()
            status = 0
        except CannotStart as reason:
            log.error("no %s: %s", title, reason)
        except BaseException:
            log.exception("%s ends", title)
        finally:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(status)

    # ------------------------------------------------------------------------------------------------ orders, reports

    def send(self, child: Child, order: Order, descriptors: tuple[int, ...] = ()) -> None:
        """Send an order; a child that takes none is killed."""
        try:
            child.channel.send(order, descriptors)
        except Closed:
            # It is dead, or as good as: a new one gets the news at birth.
            self.abort(child, "does not listen")

    def retire(self, child: Child, seconds: float, order: Order | None = None) -> None:
        """Let it end within `seconds`, without a replacement."""
        child.retiring = True
        child.abort_at = time.monotonic() + seconds + (GRACE if child.version else BEGINS_IN)
        self.send(child, order if order is not None else Drain(seconds))

    def receive(self, child: Child) -> list[Report]:
        """The reports of a child. Raises BadReport; see `condemn`."""
        try:
            return child.channel.receive()
        except Closed:
            self.hang_up(child)
            # It ends, or hides from every order.
            child.abort_at = min(child.abort_at, time.monotonic() + GRACE)
            return []

    def condemn(self, child: Child, why: BadReport) -> None:
        """Kill a child that sent an invalid report: it is faulty or compromised. A new one replaces it."""
        log.error("%s (pid %d) sent an invalid message (%s) and is killed", child.name, child.pid, why)
        os.kill(child.pid, signal.SIGKILL)
        self.hang_up(child)

    def hang_up(self, child: Child) -> None:
        """Close the channel."""
        if child.channel.fileno() >= 0:
            self._selector.unregister(child.channel)
            child.channel.close()

    # ---------------------------------------------------------------------------------------------------------- death

    def soonest(self) -> float:
        """When `keep_time` has something to do next, time.monotonic(); infinite if never."""
        times = [*self.due.values(), *(min(child.abort_at, child.kill_at) for child in self)]
        return min(times, default=float("inf"))

    def take_due(self, now: float) -> list[Place]:
        """The places whose next process is to start now."""
        places = [place for place, due in self.due.items() if due <= now]
        for place in places:
            del self.due[place]
        return places

    def keep_time(self, now: float) -> None:
        """End those that do not end by themselves."""
        for child in self:
            if child.abort_at <= now:
                self.abort(child, "did not end in time")
            if child.kill_at <= now:  # it is stopped, or the kernel holds it
                child.kill_at = float("inf")
                os.kill(child.pid, signal.SIGKILL)

    def abort(self, child: Child, why: str) -> None:
        """Let a child that hangs log where (SIGABRT); after LAST_WORDS, SIGKILL."""
        child.abort_at = float("inf")
        if child.kill_at == float("inf"):
            child.kill_at = time.monotonic() + LAST_WORDS
            log.error("%s (pid %d) %s and is killed", child.name, child.pid, why)
            os.kill(child.pid, signal.SIGABRT)

    def kill_all(self) -> None:
        """End all of them at once."""
        for child in self:
            os.kill(child.pid, signal.SIGKILL)

    def remove(self, pid: int, status: int) -> Child | None:
        """Take note that a process has ended, by waitpid's status; None: it was no child of the tree."""
        child = self._children.pop(pid, None)
        if child is None:
            return None
        self.hang_up(child)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
            log.error(
                "%s (pid %d) made a system call that only an intruder makes (sandbox): the kernel's log has its number",
                child.name,
                child.pid,
            )
        return child

    def failures(self, child: Child) -> int:
        """How often in a row a process in this place has ended at once, this one included."""
        quick = time.monotonic() - child.born < QUICK
        count = self._failures[child.place] = self._failures.get(child.place, 0) + 1 if quick else 0
        return count

    def replace(self, child: Child, how: str, failures: int) -> None:
        """Schedule a replacement of one that died, with growing delays."""
        delay = min(SLOWEST_RESTART, 0.1 * 2**failures) if failures > 1 else 0.0
        log.error(
            "%s (pid %d) %s; starting another%s", child.name, child.pid, how, f" in {delay:.1f}s" if delay else ""
        )
        self.due[child.place] = time.monotonic() + delay

    def forget_due(self, kept: Collection[Place]) -> None:
        """Start none but in the places that are `kept`."""
        self.due = {place: due for place, due in self.due.items() if place in kept}


def ending(status: int) -> str:
    """How a process ended, from the status of waitpid."""
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
