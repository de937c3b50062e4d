"""The process tree: opens the sockets, starts workers and control, replaces the dead, reloads, hands over, drains.

Deliberately without an event loop: it waits for signals, children and little else, and forks from a clean state.
It is the only process that stays root, and it handles no byte from the network.
"""

import contextlib
import gc
import logging
import mmap
import os
import resource
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from gateway.board import DOWN, DRAIN, MAINTENANCE, READY, UNKNOWN, UP, Board
from gateway.config import CapacityError, ConfigError, Loaded, Site, Snapshot, discovery, load
from gateway.config.discovery import Found, Member, Question
from gateway.config.snapshot import ServerKey
from gateway.explain.required import require
from gateway.hardening import kernel, roles
from gateway.hardening.confinement import Bounds, active, protect, settle, shortcomings
from gateway.process.bulletin import Bulletin
from gateway.process.channel import (
    Apply,
    BadReport,
    Bequeath,
    ChildEnd,
    Closed,
    Discovered,
    Drain,
    Order,
    Packed,
    Ready,
    ReopenLog,
    SupervisorEnd,
    identity,
    pair,
)
from gateway.process.supervisor_status import Facts, State
from gateway.proxy import worker
from gateway.secrets.vault import BadState, Vault, gather
from gateway.supervisor import handover
from gateway.supervisor.service import PidFile, notify
from gateway.supervisor.sockets import Sockets, StartError
from gateway.supervisor.startup_lookup import addresses, inquire
from gateway.system import account as accounts
from gateway.system import crash_report, descriptors, output, regular_file
from gateway.system.account import Account, NoAccount
from loadagent.printable import LineFormatter, printable_lines
from qos.rates import RateTable

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[], None]
"""What a child does inside its event loop."""

ORDERS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that the supervisor obeys."""
STATES: Final = frozenset((UNKNOWN, UP, DOWN))
ADMIN_STATES: Final = frozenset((READY, DRAIN, MAINTENANCE))
CONTROL: Final = -1
"""Stands for a worker's number where control is meant."""
HEARTBEAT: Final = -2
"""The same for the heartbeat process."""
QUICK: Final = 1.0
"""Seconds: a child that lives shorter than this is not started again at once."""
HOPELESS: Final = 3
"""Quick deaths of a worker before any has worked, after which the gateway gives up."""
SLOWEST_RESTART: Final = 5.0
GRACE: Final = 2.0
"""Seconds beyond `drain` until a child that does not end is killed."""
BEQUEST: Final = 15.0
"""Seconds that the heartbeat of an upgraded gateway has to leave its addresses to the next one, or give them away."""
NICE: Final = 10
"""How far those who carry traffic go before the reading of a large site file beside them (nice(2))."""
LAST_WORDS: Final = 0.5
"""Seconds that a child which does not end has to say where it hangs, before SIGKILL."""
RATES: Final = 64 << 20
"""Bytes of the table in which rates are counted; the kernel gives memory only for what is used of it."""
LINGER: Final = 3600.0
"""Seconds that requests and tunnels may go on in workers that a reload or an upgrade replaced: nobody waits."""


@dataclass(slots=True)
class Child:
    """A process of the tree: a worker by its number, CONTROL or HEARTBEAT."""

    number: int
    pid: int
    channel: SupervisorEnd
    born: float
    version: int = 0
    """Of the site file that it works by."""
    retiring: bool = False
    abort_at: float = float("inf")
    """When it is told to die and say where it hangs, if it has not ended by then."""
    kill_at: float = float("inf")
    """When it is not asked any more."""

    @property
    def name(self) -> str:
        """As in the log."""
        return _name(self.number)


@dataclass(frozen=True, slots=True)
class Candidate:
    """All that another version of the site file needs, read, checked and opened."""

    loaded: Loaded
    account: Account | None
    found: Found
    snapshot: Snapshot
    vault: Vault
    warnings: tuple[object, ...]
    leaving: set[int]
    """Workers that only finish what runs."""
    sockets: Sockets
    log_fd: int | None


class Supervisor:
    """The parent of the tree, from `run` until all children have ended.

    `heritage` is what a predecessor left. `command` starts a successor; without one there are no upgrades.
    """

    def __init__(
        self,
        path: Path,
        heritage: handover.Heritage | None = None,
        pid_file: PidFile | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self._path = path
        loaded = load(path, addresses, certificates=False)
        bounds = Bounds.of(loaded.site)
        protect(bounds)
        account = _account(loaded.site)
        require(loaded, account)
        self._vault, doubts = gather(loaded, None)
        shared = accounts.doubt(loaded.site.user)
        for warning in (*loaded.warnings, *doubts, *filter(None, [shared]), *shortcomings(bounds)):
            log.warning("%s", warning)
        self._loaded = loaded
        self._account = account
        self._found: Found = {}
        self._found = self._inquire(loaded.site, self._account)
        self._snapshot = Snapshot.first(loaded, self._found)
        _warn_of_gaps(self._snapshot.questions, self._found)
        self._board = Board()
        self._rates = RateTable(mmap.mmap(-1, RATES), os.urandom(16))
        self._log_fd = _open_log(loaded.site)
        inherited = Sockets(heritage.workers, heritage.control) if heritage is not None else Sockets()
        self._sockets = inherited.adapt(loaded.site)
        inherited.close_except(self._sockets)
        self._heritage = heritage
        self._pid_file = pid_file
        self._command = list(command)
        self._successor: handover.Successor | None = None
        self._cells = loaded.site.workers  # of the Board, one a worker; those that only finish included
        self._children: dict[int, Child] = {}
        self._due: dict[int, float] = {}  # number of a dead child -> when to start the next one
        self._failures: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._announced = False
        self._silent = set(self._sockets.workers)  # who has not yet said that it works
        self._open = False
        self._reloading = 0  # the version that workers are going over to
        self._status = 0
        self._facts = Facts(sandbox=active(bounds))
        self._heartbeat_says = Bulletin()

    # ------------------------------------------------------------------------------------------------------ the loop

    def run(self) -> int:
        """Start everything; return the exit status when everything has ended."""
        wakeup = self._catch_signals()
        self._clear_rows(None)
        self._adopt_states()
        self._start(CONTROL)
        for number in self._sockets.workers:
            self._start(number)
        if self._snapshot.site.cluster is not None:
            self._start(HEARTBEAT)
        while self._children or self._successor is not None or (self._due and not self._stopping):
            for key, _ in self._selector.select(self._timeout()):
                if key.data is None:
                    for number in os.read(wakeup, 512):
                        self._signal(number)
                elif isinstance(key.data, handover.Successor):
                    self._hear_successor(key.data)
                else:
                    self._hear(key.data)
            self._reap()
            self._keep_time()
        if self._pid_file is not None:
            self._pid_file.remove()
        return self._status

    def _catch_signals(self) -> int:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (*ORDERS, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(reading, selectors.EVENT_READ, None)
        self._wakeup = (reading, writing)
        return reading

    def _timeout(self) -> float | None:
        """Seconds until something is due by the clock."""
        times = [*self._due.values(), *(min(child.abort_at, child.kill_at) for child in self._children.values())]
        if self._successor is not None:
            times.append(self._successor.deadline)
        soonest = min(times, default=float("inf"))
        return None if soonest == float("inf") else max(0.0, soonest - time.monotonic())

    def _signal(self, number: int) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                self._stop()
            case signal.SIGHUP:
                self._reload()
            case signal.SIGUSR1:
                self._reopen_log()
            case signal.SIGUSR2:
                self._upgrade()

    def _keep_time(self) -> None:
        now = time.monotonic()
        for number, due in list(self._due.items()):
            if due <= now and not self._stopping:
                del self._due[number]
                self._start(number)
        for child in self._children.values():
            if child.abort_at <= now:
                self._abort(child, "did not end in time")
            if child.kill_at <= now:  # it is stopped, or the kernel holds it
                child.kill_at = float("inf")
                os.kill(child.pid, signal.SIGKILL)
        successor = self._successor
        if successor is not None and successor.deadline <= now:
            if successor.failed:
                successor.deadline = float("inf")
                os.kill(successor.pid, signal.SIGKILL)
            else:
                self._give_up(successor, f"it was not ready within {handover.TIMEOUT:g}s")

    def _abort(self, child: Child, why: str) -> None:
        """Let a child that does not do as it should say where it hangs (SIGABRT); LAST_WORDS later, SIGKILL."""
        child.abort_at = float("inf")
        if child.kill_at == float("inf"):
            child.kill_at = time.monotonic() + LAST_WORDS
            log.error("%s (pid %d) %s and is killed", child.name, child.pid, why)
            os.kill(child.pid, signal.SIGABRT)

    # ------------------------------------------------------------------------------------------------------- children

    def _start(self, number: int) -> None:
        ours, theirs = pair()
        if number >= 0:
            self._clear_worker(number)
        sys.stdout.flush()
        sys.stderr.flush()
        with self._heartbeat_says.handed_on() if number == HEARTBEAT else contextlib.nullcontext():
            pid = os.fork()
        if pid == 0:
            self._become(number, ours, theirs)
        theirs.close()
        child = Child(number, pid, ours, time.monotonic())
        self._children[pid] = child
        self._post()
        self._selector.register(ours, selectors.EVENT_READ, child)
        log.info("%s started, pid %d", child.name, pid)

    def _become(self, number: int, ours: SupervisorEnd, theirs: ChildEnd) -> None:
        """The child's side of a fork; never returns."""
        status = 1
        try:
            crash_report.enable(_name(number))
            signal.set_wakeup_fd(-1)
            for caught in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(caught, signal.SIG_DFL)
            for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                signal.signal(ignored, signal.SIG_IGN)  # terminals and `kill` send these to the whole group
            self._let_go(number, ours)
            kernel.set_name({CONTROL: "gw-control", HEARTBEAT: "gw-heartbeat"}.get(number, f"gw-worker-{number}"))
            if number == HEARTBEAT:
                status = self._heartbeat(theirs)
                return
            work = self._control(theirs) if number == CONTROL else self._worker(number, theirs)
            role = roles.CONTROL if number == CONTROL else roles.WORKER
            settle(self._account, role, Bounds.of(self._snapshot.site))
            work()
            status = 0
        except BaseException:
            log.exception("%s ends", _name(number))
        finally:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(status)

    def _worker(self, number: int, channel: ChildEnd) -> Work:
        sockets = self._sockets.workers[number]
        inherited = worker.Inheritance(
            number,
            self._board,
            self._snapshot,
            self._cells,
            sockets,
            self._log_fd,
            self._vault,
            self._rates,
            channel,
        )
        return lambda: worker.run(inherited)

    def _control(self, channel: ChildEnd) -> Work:
        # Here and now: neither the first request nor a worker's memory should wait for its libraries, and after
        # dropping privileges they may be out of reach.
        import encodings.idna  # noqa: F401, PLC0415

        from gateway.control import process, status  # noqa: PLC0415

        asked = status.listen(self._snapshot.site.admin.sockets, heir=self._heritage is not None)
        sockets = {name: sock for name, (_, sock) in self._sockets.control.items()}
        bulletins = self._facts.bulletin, self._heartbeat_says
        inherited = process.Inheritance(self._board, self._snapshot, sockets, asked, bulletins, channel)
        return lambda: process.run(inherited)

    def _heartbeat(self, channel: ChildEnd) -> int:
        from gateway.heartbeat import process  # noqa: PLC0415 - where there is a cluster

        try:
            bulletins = self._facts.bulletin, self._heartbeat_says
            process.run(process.Inheritance(self._board, self._snapshot, channel, self._account, bulletins))
        except process.CannotStart as reason:
            log.error("no heartbeat: %s", reason)
            return 1
        return 0

    def _let_go(self, number: int, ours: SupervisorEnd) -> None:
        """Close what belongs to the supervisor and to other children: a copy would hide that its owner died."""
        ours.close()
        for child in self._children.values():
            child.channel.close()
        self._selector.close()
        for descriptor in self._wakeup:
            os.close(descriptor)
        if self._heritage is not None:
            self._heritage.predecessor.close()
        if self._successor is not None:
            self._successor.close()
        for other, places in self._sockets.workers.items():
            if other != number:
                for _, sock in places:
                    sock.close()
        for _, sock in self._sockets.control.values():
            if number != CONTROL:
                sock.close()
        if number < 0:
            self._vault.close()
            _close_log(self._log_fd)
        self._children.clear()

    def _hear(self, child: Child) -> None:
        """Take what a child says: of that nothing is believed but what it is for."""
        news: dict[Question, tuple[Member, ...]] = {}
        try:
            for report in child.channel.receive():
                match report:
                    case Ready(version) if version <= self._snapshot.version:
                        self._note_ready(child, version)
                    case Discovered(found) if child.number == CONTROL:
                        news.update(found)
                    case _:
                        raise BadReport(f"{type(report).__name__}, which it cannot know")
        except BadReport as error:
            self._condemn(child, str(error))
        except Closed:
            self._hang_up(child)
            # It ends, or hides from every order.
            child.abort_at = min(child.abort_at, time.monotonic() + GRACE)
        else:
            if news:
                self._discover(news)

    def _note_ready(self, child: Child, version: int) -> None:
        if child.version != version:
            log.info("%s works by version %d of the site file", child.name, version)
        child.version = version
        self._tell_reloaded()
        self._announce(child)
        self._count_ready(child)

    def _condemn(self, child: Child, why: str) -> None:
        """Kill a child that sent what is not a report: it is broken, or was broken into. Another one follows."""
        log.error("%s (pid %d) sent what is not a report (%s): it is killed", child.name, child.pid, why)
        self._facts.bad_reports[child.name] += 1
        os.kill(child.pid, signal.SIGKILL)
        self._hang_up(child)

    def _hang_up(self, child: Child) -> None:
        self._selector.unregister(child.channel)
        child.channel.close()

    def _announce(self, child: Child) -> None:
        """Say once that the site is open."""
        if self._announced or child.number < 0:
            return
        self._announced = True
        site = self._snapshot.site
        places = [
            str(listen) if listen.path else f"{'https' if frontend.tls else 'http'}://{listen}"
            for frontend in site.frontends
            for listen in frontend.listen
        ]
        log.info("ready: %s, %d worker%s", ", ".join(places), site.workers, "" if site.workers == 1 else "s")

    def _count_ready(self, child: Child) -> None:
        """Once, when every worker works: others may rely on it."""
        self._silent.discard(child.number)
        if self._open or self._silent:
            return
        self._open = True
        self._post()
        if self._pid_file is not None:
            try:
                self._pid_file.write()
            except OSError as error:
                log.error("cannot write the PID file: %s", error)
        if self._heritage is not None:
            self._heritage.predecessor.ready()
            self._sockets.take_over(self._heritage.files)
            self._heritage = None
        else:
            notify("READY=1")

    def _post(self) -> None:
        """Tell control what is so now."""
        state: State = "starting" if self._heritage is None else "taking over"
        if self._open or self._stopping:
            state = "stopping" if self._stopping else "running"
        children = {child.name: child.pid for child in self._children.values() if not child.retiring}
        self._facts.post(state, self._sockets.workers, children)

    def _reap(self) -> None:
        while self._children or self._successor is not None:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._successor is not None and pid == self._successor.pid:
                self._mourn(self._successor, status)
            child = self._children.pop(pid, None)
            if child is None:
                continue
            if child.channel.fileno() >= 0:
                self._hang_up(child)
            self._bury(child, status)

    def _bury(self, child: Child, status: int) -> None:
        how = _how(status)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
            log.error(
                "%s (pid %d) made a system call that only an intruder makes (sandbox): the kernel's log has its number",
                child.name,
                child.pid,
            )
        if child.number >= 0:
            self._clear_worker(child.number)
        if child.retiring or self._stopping:
            log.info("%s (pid %d) %s", child.name, child.pid, how)
            if self._stopping and not any(other.number >= 0 for other in self._children.values()):
                self._stop_others()
            elif child.number == HEARTBEAT and self._snapshot.site.cluster is not None and not self._stopping:
                self._start(HEARTBEAT)  # by the new site file
            return
        self._facts.deaths[child.name] += 1
        self._post()
        quick = time.monotonic() - child.born < QUICK
        failures = self._failures[child.number] = self._failures.get(child.number, 0) + 1 if quick else 0
        if failures == HOPELESS and not self._announced:
            log.error("%s (pid %d) %s, again: the gateway cannot start", child.name, child.pid, how)
            self._status = 1
            self._stop()
            return
        delay = min(SLOWEST_RESTART, 0.1 * 2**failures) if failures > 1 else 0.0
        log.error(
            "%s (pid %d) %s; starting another%s", child.name, child.pid, how, f" in {delay:.1f}s" if delay else ""
        )
        self._due[child.number] = time.monotonic() + delay

    # ------------------------------------------------------------------------------------------------ reload and stop

    def _reload(self) -> None:
        if self._stopping:
            return
        if self._successor is not None:
            log.error("reload refused: an upgrade is under way")
            self._facts.reload(accepted=False)
            self._post()
            return
        try:
            new = self._read_anew()
        except (ConfigError, CapacityError, StartError, BadState) as error:
            log.error("reload refused, the gateway goes on with version %d:\n%s", self._snapshot.version, error)
            self._facts.reload(accepted=False)
            self._post()
            return
        self._take_up(new)

    def _read_anew(self) -> Candidate:
        """Read the site file and all that belongs to it; nothing changes yet.

        Raises ConfigError, CapacityError, StartError, BadState.
        """
        loaded = _in_background(partial(load, self._path, addresses, certificates=False))
        account = _account(loaded.site)
        require(loaded, account)
        found = self._inquire(loaded.site, account)
        snapshot = self._snapshot.next(loaded, found)
        vault, doubts = gather(loaded, self._vault)
        try:
            leaving = {child.number for child in self._children.values() if child.retiring}
            sockets, log_fd = self._open_for(loaded.site, leaving)
        except StartError:
            vault.close()
            raise
        return Candidate(loaded, account, found, snapshot, vault, (*loaded.warnings, *doubts), leaving, sockets, log_fd)

    def _take_up(self, new: Candidate) -> None:
        """Work by another site file from now on."""
        for warning in new.warnings:
            log.warning("%s", warning)
        if Bounds.of(new.loaded.site) != Bounds.of(self._snapshot.site):
            log.warning("sandbox, core_dumps: a change counts for processes that start from now on")
        _warn_of_gaps(new.snapshot.questions, new.found)
        before, self._sockets = self._sockets, new.sockets
        self._vault.close()
        self._vault = new.vault
        self._cells = 1 + max(new.leaving | before.workers.keys() | new.sockets.workers.keys())
        of_old = self._snapshot
        self._loaded, self._found, self._snapshot = new.loaded, new.found, new.snapshot
        self._clear_rows(of_old)
        self._account = new.account
        before_log, self._log_fd = self._log_fd, new.log_fd
        # Before the workers hear of it: the last owner of a socket can serve all who wait in it, and no copy
        # is left for more to come.
        before.close_except(new.sockets)
        packed = Packed.of(new.snapshot)
        for child in list(self._children.values()):
            if child.number == HEARTBEAT and self._cluster_changed(of_old):
                self._retire(child, 0.0)
            self._pass_on(child, packed, before, log_changed=new.log_fd != before_log)
        if before_log != new.log_fd:
            _close_log(before_log)
        self._due = {n: due for n, due in self._due.items() if n < 0 or n in new.sockets.workers}
        self._silent &= new.sockets.workers.keys()
        self._start_missing(of_old)
        self._reloading = new.snapshot.version
        self._facts.reload(accepted=True)
        self._post()

    def _start_missing(self, before: Snapshot) -> None:
        """Start the processes that a reload adds."""
        running = {child.number for child in self._children.values() if not child.retiring}
        if before.site.cluster is None and self._snapshot.site.cluster is not None and HEARTBEAT not in self._due:
            self._start(HEARTBEAT)
        for number in self._sockets.workers:
            if number not in running and number not in self._due:
                self._start(number)

    def _open_for(self, site: Site, leaving: AbstractSet[int]) -> tuple[Sockets, int | None]:
        """The sockets and the access log for another site; see Sockets.adapt. Raises StartError."""
        log_fd = self._log_fd
        if site.access_log != self._snapshot.site.access_log:
            log_fd = _open_log(site)
        try:
            return self._sockets.adapt(site, leaving), log_fd
        except StartError:
            if log_fd != self._log_fd:
                _close_log(log_fd)
            raise

    def _tell_reloaded(self) -> None:
        """Say so once every worker works by the new site file."""
        workers = [child for child in self._children.values() if child.number >= 0 and not child.retiring]
        if self._reloading and all(child.version >= self._reloading for child in workers):
            log.info("reloaded: version %d of the site file", self._reloading)
            self._reloading = 0

    def _cluster_changed(self, before: Snapshot) -> bool:
        """Whether a reload says something else about nodes and addresses: then the heartbeat begins anew."""
        was, now = before.site, self._snapshot.site
        key = was.cluster.key_file if was.cluster is not None else None
        return (was.node, was.cluster, was.user) != (now.node, now.cluster, now.user) or (
            key is not None and before.files[key] != self._snapshot.files.get(key)
        )

    def _inquire(self, site: Site, account: Account | None) -> Found:
        """What is known of the dns: entries of `site`, and what there is to know of those that are new."""
        questions = discovery.questions(site)
        known = {question: members for question, members in self._found.items() if question in questions}
        return {**known, **inquire(questions - known.keys(), site, account)}

    def _discover(self, news: Found) -> None:
        """Servers of dns: entries have come or gone: the same site file, another snapshot."""
        news = {question: members for question, members in news.items() if question in self._snapshot.questions}
        if self._stopping or news.items() <= self._found.items():
            return
        self._found = found = {**self._found, **news}
        try:
            snapshot = self._snapshot.follow(self._loaded, found)
        except CapacityError as error:
            log.error("the servers that the name service names stay as they are: %s", error)
            return
        before, self._snapshot = self._snapshot, snapshot
        for servers, what in (
            (snapshot.slots.keys() - before.slots.keys(), "found"),
            (before.slots.keys() - snapshot.slots.keys(), "gone"),
        ):
            if servers:
                log.info("servers %s by name: %s", what, ", ".join(sorted("/".join(server) for server in servers)))
        _warn_of_gaps(news, found)
        self._clear_rows(before)
        packed = Packed.of(snapshot)
        for child in list(self._children.values()):
            self._pass_on(child, packed, self._sockets, log_changed=False)

    def _pass_on(self, child: Child, packed: Packed, before: Sockets, *, log_changed: bool) -> None:
        """Bring one child up to date with a packed snapshot, or let it go."""
        if child.retiring:
            return
        if child.number == CONTROL:
            new = {
                name: place[1].fileno()
                for name, place in self._sockets.control.items()
                if place != before.control.get(name)
            }
            self._send(child, Apply(packed.bare, self._cells, control=tuple(new)), tuple(new.values()))
        elif child.number == HEARTBEAT:
            self._send(child, Apply(packed.bare, self._cells))
        elif child.number not in self._sockets.workers:
            self._retire(child, LINGER)
        else:
            places = self._sockets.workers[child.number]
            have = before.workers.get(child.number, ())
            new_places = [place for place in places if place not in have]
            descriptors = [sock.fileno() for _, sock in new_places]
            with_log = log_changed and self._log_fd is not None
            if with_log and self._log_fd is not None:
                descriptors.append(self._log_fd)
            descriptors.append(self._vault.fileno())
            sockets = frozenset(identity(sock) for _, sock in places)
            news = Apply(packed, self._cells, sockets, tuple(listen for listen, _ in new_places), with_log)
            self._send(child, news, tuple(descriptors))

    def _send(self, child: Child, order: Order, descriptors: tuple[int, ...] = ()) -> None:
        try:
            child.channel.send(order, descriptors)
        except Closed:
            # It is dead, or as good as: a new one gets the news at birth.
            self._abort(child, "does not listen")

    def _retire(self, child: Child, seconds: float) -> None:
        child.retiring = True
        child.abort_at = time.monotonic() + seconds + GRACE
        self._send(child, Drain(seconds))

    def _stop(self) -> None:
        if self._stopping:
            log.warning("asked twice: stopping at once")
            for child in self._children.values():
                os.kill(child.pid, signal.SIGKILL)
            return
        self._stopping = True
        self._post()
        notify("STOPPING=1")
        log.info("stopping: running requests have %gs", self._snapshot.site.drain)
        if self._successor is not None and not self._successor.failed:
            self._give_up(self._successor, "the gateway stops")
        self._let_workers_finish(self._snapshot.site.drain)

    def _let_workers_finish(self, seconds: float) -> None:
        workers = [child for child in self._children.values() if child.number >= 0]
        for child in self._children.values():  # first the addresses: new clients then go where they are served
            if child.number == HEARTBEAT and not child.retiring:
                self._send(child, Drain(max(seconds, GRACE)))
        self._sockets.close_except(Sockets())
        for child in workers:
            self._retire(child, seconds)
        if not workers:
            self._stop_others()

    def _stop_others(self) -> None:
        """Control goes last: while requests run, somebody must watch the servers."""
        for child in self._children.values():
            if child.number < 0 and not child.retiring:
                child.retiring = True
                child.abort_at = time.monotonic() + GRACE
                self._send(child, Drain(0))

    # -------------------------------------------------------------------------------------------------------- upgrade

    def _adopt_states(self) -> None:
        """What the predecessor's board says about servers that are still the same."""
        left = self._heritage.servers if self._heritage is not None else ()
        for server in left:
            key = (server.backend, server.server)
            row = self._snapshot.slots.get(key)
            known = server.state in STATES and server.admin in ADMIN_STATES  # another version may have more
            if row is not None and known and str(self._snapshot.resolved[key]) == server.endpoint:
                self._board.set_state(row, server.state)
                self._board.set_admin(row, server.admin)
                self._board.set_weight(row, server.weight)

    def _upgrade(self) -> None:
        """Start a successor; it says when to let go."""
        if self._stopping or self._successor is not None:
            log.error("upgrade refused: %s", "the gateway stops" if self._stopping else "one is under way")
            return
        if not self._command:
            log.error("upgrade refused: this gateway was not started by `gateway run`")
            return
        servers = [left for key, row in self._snapshot.slots.items() if (left := self._left(key, row)) is not None]
        try:
            successor = handover.start(self._command, self._sockets, servers)
        except OSError as error:
            log.error("upgrade failed: cannot run %s: %s", self._command[0], error)
            return
        self._successor = successor
        self._selector.register(successor, selectors.EVENT_READ, successor)
        log.info("upgrade: a new gateway starts, pid %d", successor.pid)

    def _left(self, key: ServerKey, row: int) -> handover.LeftServer | None:
        """What the board says of a server; None for what no honest process writes there."""
        try:
            return handover.LeftServer(
                backend=key[0],
                server=key[1],
                endpoint=str(self._snapshot.resolved[key]),
                state=self._board.state(row),
                admin=self._board.asked(row),
                weight=self._board.weight(row),
            )
        except ValueError:
            log.error("upgrade: the board is wrong about %s: its state is not passed on", "/".join(key))
            return None

    def _hear_successor(self, successor: handover.Successor) -> None:
        answer = successor.hear()
        if answer == handover.READY:
            self._hand_over(successor)
        elif answer:
            self._give_up(successor, answer)
        elif answer is not None:
            self._selector.unregister(successor)
            successor.close()  # how it ended is known in a moment

    def _hand_over(self, successor: handover.Successor) -> None:
        """The successor carries traffic: accept no more, and end when the last request and tunnel have."""
        self._selector.unregister(successor)
        successor.close()
        self._successor = None
        self._stopping = True
        self._sockets.leave_files()
        notify(f"MAINPID={successor.pid}")
        log.info("upgrade: pid %d has taken over; what runs here may finish", successor.pid)
        for child in self._children.values():
            if child.number == HEARTBEAT and not child.retiring:
                child.retiring = True
                child.abort_at = time.monotonic() + BEQUEST + GRACE
                self._send(child, Bequeath())
        self._let_workers_finish(LINGER)
        self._stop_others()  # addresses, reports and checks are the successor's now

    def _give_up(self, successor: handover.Successor, why: str) -> None:
        """The successor failed: let it finish what it may have accepted, and go on."""
        if successor.fileno() >= 0:
            self._selector.unregister(successor)
            successor.close()
        successor.failed = True
        self._facts.upgrades_failed += 1
        self._post()
        successor.deadline = time.monotonic() + self._snapshot.site.drain + 2 * GRACE
        log.error("upgrade failed: %s", why)
        with contextlib.suppress(ProcessLookupError):
            os.kill(successor.pid, signal.SIGTERM)

    def _mourn(self, successor: handover.Successor, status: int) -> None:
        """The successor's process has ended; what it said before counts more than how."""
        said = None
        if successor.fileno() >= 0:
            said = successor.hear()
            self._selector.unregister(successor)
            successor.close()
        if not successor.failed:
            log.error("upgrade failed: %s", said if said and said != handover.READY else f"it {_how(status)}")
            self._facts.upgrades_failed += 1
            self._post()
        self._successor = None

    # ------------------------------------------------------------------------------------------------------------ logs

    def _reopen_log(self) -> None:
        """After a rotation (SIGUSR1): the same name, a new file."""
        try:
            log_fd = _open_log(self._snapshot.site)
        except StartError as error:
            log.error("the access log goes on in the old file: %s", error)
            return
        before, self._log_fd = self._log_fd, log_fd
        if log_fd is None or log_fd <= 2:
            return
        for child in self._children.values():
            if child.number >= 0:
                self._send(child, ReopenLog(), (log_fd,))
        _close_log(before)
        log.info("access log reopened")

    def _clear_rows(self, before: Snapshot | None) -> None:
        """Clear the rows of the board that have got a new owner since the snapshot `before`."""
        now = self._snapshot
        for row in set(now.slots.values()) - set(before.slots.values() if before else ()):
            self._board.clear_server(row)
        for row in set(now.traffic.values()) - set(before.traffic.values() if before else ()):
            self._board.clear_traffic(row)

    def _clear_worker(self, number: int) -> None:
        """Forget what a worker that is gone, or has not begun, has under way."""
        self._board.clear_worker(number, self._snapshot.server_rows.unused, self._snapshot.traffic_rows.unused)


def _in_background(work: Callable[[], T]) -> T:
    """Do what takes a while in a thread that gives way: a process would need rights to become again as it was."""
    with ThreadPoolExecutor(1, initializer=os.nice, initargs=(NICE,)) as thread:
        return thread.submit(work).result()


def _name(number: int) -> str:
    return {CONTROL: "control", HEARTBEAT: "heartbeat"}.get(number, f"worker {number}")


def _how(status: int) -> str:
    """How a process ended, by what waitpid returned."""
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def _warn_of_gaps(questions: Iterable[Question], found: Found) -> None:
    """Say which of the names that are asked for have no servers."""
    named = {question.address for question, members in found.items() if members}
    for address in sorted({question.address for question in questions} - named):
        log.warning("%s: the name service does not know a server of this name", address)


def _open_log(site: Site) -> int | None:
    if site.access_log is None:
        return None
    if site.access_log.path == "-":
        return output.unhurried(1)
    try:
        return regular_file.append(Path(site.access_log.path), 0o640)
    except OSError as error:
        raise StartError(
            f"cannot write the access log {site.access_log.path}: {(error.strerror or '').lower()}"
        ) from None


def _close_log(fd: int | None) -> None:
    if fd is not None and fd > 2:
        os.close(fd)


def _account(site: Site) -> Account | None:
    """Return the account to switch to, or None to stay the present one. Raises StartError."""
    if os.geteuid() != 0 and site.cluster is not None:
        raise StartError("sharing addresses (cluster) needs root: only root may move them")
    try:
        return accounts.of(site.user)
    except NoAccount as error:
        raise StartError(str(error)) from None


def _raise_limits() -> None:
    """Let the tree use as many descriptors as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def set_up_log(name: str) -> None:
    """Log to standard error, a line an event; should a signal end the process, also who it was (`name`) and where."""
    handler = output.Handler(sys.stderr.fileno())
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)-7s [%(process)d] %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    crash_report.enable(name)


def run(path: Path, pid_file: Path | None = None, command: Sequence[str] = ()) -> int:
    """Run the site file at `path` until SIGTERM or SIGINT; the exit status. Problems are printed on standard error.

    `command` is what starts another one for an upgrade. If this one was started so, it takes over.
    """
    set_up_log("supervisor")
    protect(Bounds())  # before a key is read; the site file may allow more
    _raise_limits()
    heritage = None
    try:
        heritage = handover.inherit(os.environ)
        descriptors.close_strangers()
        supervisor = Supervisor(path, heritage, PidFile(pid_file) if pid_file is not None else None, command)
    except (ConfigError, CapacityError, StartError, BadState, handover.BadEstate) as error:
        text = str(error) if isinstance(error, ConfigError) else f"{path}: {error}"
        if heritage is not None:
            heritage.predecessor.failed(text)  # whose log it is, too
        else:
            sys.stderr.write(f"{printable_lines(text)}\n")
        return 1
    gc.freeze()
    return supervisor.run()
