"""The process tree: opens the sockets, starts workers and control, replaces the dead, reloads, drains.

Deliberately without an event loop: it waits for signals, children and little else, and forks from a clean state.
It is the only process that stays root, and it handles no byte from the network.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import pwd
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import uvloop

from gateway.board import WORKERS, Board
from gateway.channel import Apply, Channel, Closed, Drain, Ready, ReopenLog
from gateway.config import CapacityError, ConfigError, Site, Snapshot, load
from gateway.config.model import Listen
from gateway.proxy import worker

log = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]
"""What a child does inside its event loop."""

CONTROL: Final = -1
"""Stands for a worker's number where control is meant."""
BACKLOG: Final = 4096
QUICK: Final = 1.0
"""Seconds: a child that lives shorter than this is not started again at once."""
HOPELESS: Final = 3
"""Quick deaths of a worker before any has worked, after which the gateway gives up."""
SLOWEST_RESTART: Final = 5.0
GRACE: Final = 2.0
"""Seconds beyond `drain` until a child that does not end is killed."""


class StartError(Exception):
    """The gateway can't start; the text says why and what to do."""


@dataclass(slots=True)
class Child:
    """A process of the tree: a worker by its number, or CONTROL."""

    number: int
    pid: int
    channel: Channel
    born: float
    retiring: bool = False
    kill_at: float = field(default=float("inf"))

    @property
    def name(self) -> str:
        """As in the log."""
        return "control" if self.number == CONTROL else f"worker {self.number}"


class Sockets:
    """Every listening socket: one per worker and address, and one for load reports."""

    def __init__(self) -> None:
        self.workers: dict[int, dict[Listen, socket.socket]] = {}
        self.reports: socket.socket | None = None
        self._reports_listen: Listen | None = None

    def adapt(self, site: Site, leaving: AbstractSet[int] = frozenset()) -> "Sockets":
        """The sockets for `site`: what is open is kept, the rest is opened.

        `leaving` are numbers of workers that still finish requests; until they have, nobody else gets them.
        Raises StartError; `self` stays as it is.
        """
        wanted = tuple(listen for frontend in site.frontends for listen in frontend.listen)
        fresh = Sockets()
        opened: list[socket.socket] = []
        try:
            known = next(iter(self.workers.values()), {})
            for listen in wanted:
                if listen not in known:
                    _probe(listen)
            for number in self._numbers(site.workers, leaving):
                have = self.workers.get(number, {})
                fresh.workers[number] = {}
                for listen in wanted:
                    if listen not in have:
                        opened.append(_listen(listen))
                    fresh.workers[number][listen] = have[listen] if listen in have else opened[-1]
            if site.load_reports is not None:
                fresh._reports_listen = site.load_reports.listen
                if fresh._reports_listen == self._reports_listen:
                    fresh.reports = self.reports
                else:
                    fresh.reports = _bind(site.load_reports.listen, socket.SOCK_DGRAM)
        except StartError:
            for sock in opened:
                sock.close()
            raise
        return fresh

    def _numbers(self, count: int, leaving: AbstractSet[int]) -> list[int]:
        """The numbers in use, lowest first, then new ones: a cell of the Board has one worker at a time."""
        free = (n for n in range(WORKERS) if n not in self.workers and n not in leaving)
        numbers = list(islice(chain(sorted(self.workers), free), count))
        if len(numbers) < count:
            raise StartError(f"{len(leaving)} workers still finish their requests; reload when they have")
        return numbers

    def close_except(self, kept: "Sockets") -> None:
        """Close what `kept` does not have."""
        keep = {id(sock) for sockets in kept.workers.values() for sock in sockets.values()}
        for sockets in self.workers.values():
            for sock in sockets.values():
                if id(sock) not in keep:
                    sock.close()
        if self.reports is not None and self.reports is not kept.reports:
            self.reports.close()


def _bind(listen: Listen, kind: socket.SocketKind, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((listen.host, listen.port))
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {listen}: {_why(error)}") from None
    return sock


def _listen(listen: Listen) -> socket.socket:
    """One of several sockets on the same address; the kernel spreads clients over them (socket(7))."""
    sock = _bind(listen, socket.SOCK_STREAM, shared=True)
    sock.listen(BACKLOG)
    return sock


def _probe(listen: Listen) -> None:
    """Make sure that nobody else listens there: SO_REUSEPORT would share with another gateway without a word."""
    with _bind(listen, socket.SOCK_STREAM) as sock:
        sock.listen(1)


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program is using it (see `ss -ltnp`)"
    if error.errno == errno.EACCES:
        return "ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    return (error.strerror or str(error)).lower()


class Supervisor:
    """The parent of the tree, from `run` until all children have ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        loaded = load(path)
        for warning in loaded.warnings:
            log.warning("%s", warning)
        self._snapshot = Snapshot.first(loaded)
        self._account = _account(loaded.site)
        self._board = Board()
        self._sockets = Sockets().adapt(loaded.site)
        self._cells = loaded.site.workers  # of the Board, one a worker; those that only finish included
        self._log_fd = _open_log(loaded.site)
        self._children: dict[int, Child] = {}
        self._due: dict[int, float] = {}  # number of a dead child -> when to start the next one
        self._failures: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._announced = False
        self._status = 0
        self._rows = 0

    # ------------------------------------------------------------------------------------------------------ the loop

    def run(self) -> int:
        """Start everything; return the exit status when everything has ended."""
        wakeup = self._catch_signals()
        self._clear_rows(set(self._snapshot.slots.values()))
        self._start(CONTROL)
        for number in self._sockets.workers:
            self._start(number)
        while self._children or (self._due and not self._stopping):
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    for number in os.read(wakeup, 512):
                        self._signal(number)
                else:
                    self._hear(key.data)
            self._reap()
            self._keep_time()
        return self._status

    def _catch_signals(self) -> int:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(reading, selectors.EVENT_READ, None)
        self._wakeup = (reading, writing)
        return reading

    def _patience(self) -> float | None:
        """Seconds until something is due by the clock."""
        times = [*self._due.values(), *(child.kill_at for child in self._children.values())]
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

    def _keep_time(self) -> None:
        now = time.monotonic()
        for number, due in list(self._due.items()):
            if due <= now and not self._stopping:
                del self._due[number]
                self._start(number)
        for child in self._children.values():
            if child.kill_at <= now:
                child.kill_at = float("inf")
                log.error("%s (pid %d) did not end in time and is killed", child.name, child.pid)
                os.kill(child.pid, signal.SIGKILL)

    # ------------------------------------------------------------------------------------------------------- children

    def _start(self, number: int) -> None:
        ours, theirs = Channel.pair()
        if number >= 0:
            self._board.clear_worker(number, self._rows)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(number, ours, theirs)
        theirs.close()
        child = Child(number, pid, ours, time.monotonic())
        self._children[pid] = child
        self._selector.register(ours, selectors.EVENT_READ, child)
        log.info("%s started, pid %d", child.name, pid)

    def _become(self, number: int, ours: Channel, theirs: Channel) -> None:
        """The child's side of a fork; never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for caught in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(caught, signal.SIG_DFL)
            for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(ignored, signal.SIG_IGN)  # a terminal sends these to the whole group
            self._let_go(number, ours)
            work = self._control(theirs) if number == CONTROL else self._worker(number, theirs)
            _name_process("gw-control" if number == CONTROL else f"gw-worker-{number}")
            _drop_privileges(self._account)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(work())
            status = 0
        except BaseException:
            log.exception("%s ends", "control" if number == CONTROL else f"worker {number}")
        finally:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(status)

    def _worker(self, number: int, channel: Channel) -> Work:
        sockets = self._sockets.workers[number]
        inherited = worker.Inheritance(number, self._board, self._snapshot, self._cells, sockets, self._log_fd, channel)
        return lambda: worker.run(inherited)

    def _control(self, channel: Channel) -> Work:
        # Here and now: neither the first request nor a worker's memory should wait for its libraries, and after
        # dropping privileges they may be out of reach.
        import encodings.idna  # noqa: F401, PLC0415

        from gateway.control import process  # noqa: PLC0415

        inherited = process.Inheritance(self._board, self._snapshot, self._sockets.reports, channel)
        return lambda: process.run(inherited)

    def _let_go(self, number: int, ours: Channel) -> None:
        """Close what belongs to the supervisor and to other children: a copy would hide that its owner died."""
        ours.close()
        for child in self._children.values():
            child.channel.close()
        self._selector.close()
        for descriptor in self._wakeup:
            os.close(descriptor)
        for other, sockets in self._sockets.workers.items():
            if other != number:
                for sock in sockets.values():
                    sock.close()
        if number != CONTROL and self._sockets.reports is not None:
            self._sockets.reports.close()
        self._children.clear()

    def _hear(self, child: Child) -> None:
        try:
            for message, _ in child.channel.receive():
                if isinstance(message, Ready):
                    log.info("%s works by version %d of the site file", child.name, message.version)
                    self._announce(child)
        except Closed:
            self._selector.unregister(child.channel)
            child.channel.close()

    def _announce(self, child: Child) -> None:
        """Say once that the site is open."""
        if self._announced or child.number == CONTROL:
            return
        self._announced = True
        site = self._snapshot.site
        places = [
            f"{'https' if frontend.tls else 'http'}://{listen}"
            for frontend in site.frontends
            for listen in frontend.listen
        ]
        log.info("ready: %s, %d worker%s", ", ".join(places), site.workers, "" if site.workers == 1 else "s")

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is None:
                continue
            if child.channel.fileno() >= 0:
                self._selector.unregister(child.channel)
                child.channel.close()
            self._bury(child, status)

    def _bury(self, child: Child, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        if child.number >= 0:
            self._board.clear_worker(child.number, self._rows)
        if child.retiring or self._stopping:
            log.info("%s (pid %d) %s", child.name, child.pid, how)
            if self._stopping and not any(other.number >= 0 for other in self._children.values()):
                self._stop_control()
            return
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
        try:
            loaded = load(self._path)
            snapshot = self._snapshot.next(loaded)
            account = _account(loaded.site)
            leaving = {child.number for child in self._children.values() if child.retiring}
            sockets = self._sockets.adapt(loaded.site, leaving)
            log_fd = self._log_fd
            if loaded.site.access_log != self._snapshot.site.access_log:
                log_fd = _open_log(loaded.site)
        except (ConfigError, CapacityError, StartError) as error:
            log.error("reload refused, the gateway goes on with version %d:\n%s", self._snapshot.version, error)
            return
        for warning in loaded.warnings:
            log.warning("%s", warning)
        self._clear_rows(set(snapshot.slots.values()) - set(self._snapshot.slots.values()))
        before, self._sockets = self._sockets, sockets
        self._cells = 1 + max(leaving | before.workers.keys() | sockets.workers.keys())
        self._snapshot = snapshot
        self._account = account
        before_log, self._log_fd = self._log_fd, log_fd
        # Before the workers hear of it: the last owner of a socket can serve all who wait in it, and no copy
        # is left for more to come.
        before.close_except(sockets)
        for child in list(self._children.values()):
            self._pass_on(child, before, log_changed=log_fd != before_log)
        if before_log is not None and before_log != log_fd and before_log > 2:
            os.close(before_log)
        self._due = {n: due for n, due in self._due.items() if n == CONTROL or n in sockets.workers}
        running = {child.number for child in self._children.values() if not child.retiring}
        for number in sockets.workers:
            if number not in running and number not in self._due:
                self._start(number)
        log.info("reloaded: version %d of the site file", snapshot.version)

    def _pass_on(self, child: Child, before: Sockets, *, log_changed: bool) -> None:
        """Bring one child up to date, or let it go."""
        if child.retiring:
            return
        if child.number == CONTROL:
            reports = self._sockets.reports
            new = reports if reports is not before.reports else None
            news = Apply(self._snapshot, self._cells)
            self._send(child, news, (new.fileno(),) if new is not None else ())
        elif child.number not in self._sockets.workers:
            self._retire(child)
        else:
            have = before.workers.get(child.number, {})
            new_sockets = {
                listen: sock for listen, sock in self._sockets.workers[child.number].items() if listen not in have
            }
            descriptors = [sock.fileno() for sock in new_sockets.values()]
            with_log = log_changed and self._log_fd is not None
            if with_log and self._log_fd is not None:
                descriptors.append(self._log_fd)
            news = Apply(self._snapshot, self._cells, tuple(new_sockets), with_log)
            self._send(child, news, tuple(descriptors))

    def _send(self, child: Child, message: Apply | Drain | ReopenLog, descriptors: tuple[int, ...] = ()) -> None:
        try:
            child.channel.send(message, descriptors)
        except Closed:
            # It is dead, or as good as: a new one gets the news at birth.
            log.error("%s (pid %d) does not listen and is killed", child.name, child.pid)
            child.kill_at = float("inf")
            os.kill(child.pid, signal.SIGKILL)

    def _retire(self, child: Child) -> None:
        child.retiring = True
        seconds = self._snapshot.site.drain
        child.kill_at = time.monotonic() + seconds + GRACE
        self._send(child, Drain(seconds))

    def _stop(self) -> None:
        if self._stopping:
            log.warning("asked twice: stopping at once")
            for child in self._children.values():
                os.kill(child.pid, signal.SIGKILL)
            return
        self._stopping = True
        log.info("stopping: running requests have %gs", self._snapshot.site.drain)
        workers = [child for child in self._children.values() if child.number >= 0]
        self._sockets.close_except(Sockets())
        for child in workers:
            self._retire(child)
        if not workers:
            self._stop_control()

    def _stop_control(self) -> None:
        """Control goes last: while requests run, somebody must watch the servers."""
        for child in self._children.values():
            if child.number == CONTROL and not child.retiring:
                child.retiring = True
                child.kill_at = time.monotonic() + GRACE
                self._send(child, Drain(0))

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
        if before is not None and before > 2:
            os.close(before)
        log.info("access log reopened")

    def _clear_rows(self, rows: set[int]) -> None:
        for row in rows:
            self._board.clear_server(row)
        self._rows = max([self._rows, *(row + 1 for row in rows)])


def _open_log(site: Site) -> int | None:
    if site.access_log is None:
        return None
    if site.access_log.path == "-":
        return 1
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        return os.open(site.access_log.path, flags, 0o640)
    except OSError as error:
        raise StartError(
            f"cannot write the access log {site.access_log.path}: {(error.strerror or '').lower()}"
        ) from None


def _account(site: Site) -> tuple[str, int, int] | None:
    """(name, uid, gid) to become, or None where there is nothing to give up."""
    if os.geteuid() != 0 or site.user == "root":
        return None
    try:
        entry = pwd.getpwnam(site.user)
    except KeyError:
        raise StartError(f"there is no user {site.user} on this machine; set `user:` in the site file") from None
    return entry.pw_name, entry.pw_uid, entry.pw_gid


def _drop_privileges(account: tuple[str, int, int] | None) -> None:
    if account is not None:
        name, uid, gid = account
        os.initgroups(name, gid)
        os.setgid(gid)
        os.setuid(uid)


def _name_process(name: str) -> None:
    """The name that top and ps show (at most 15 bytes)."""
    with contextlib.suppress(OSError):  # only a convenience
        Path("/proc/self/comm").write_text(name)


def _raise_limits() -> None:
    """Let the tree use as many descriptors as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def set_up_log() -> None:
    """Log to standard error, a line an event."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)-7s [%(process)d] %(message)s",
    )


def run(path: Path) -> int:
    """Run the site file at `path` until SIGTERM or SIGINT; the exit status. Problems are printed on standard error."""
    set_up_log()
    _raise_limits()
    try:
        supervisor = Supervisor(path)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (CapacityError, StartError) as error:
        sys.stderr.write(f"{path}: {error}\n")
        return 1
    gc.freeze()
    return supervisor.run()
