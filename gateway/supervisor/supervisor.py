"""The process tree: starts the processes of the table (roles.py), replaces the dead, reloads, hands over, drains.

Deliberately without an event loop: it waits for signals, children and little else, and forks from a clean state.
It is the only process that stays root, and it handles no byte from the network.
"""

import gc
import hmac
import logging
import mmap
import os
import resource
import selectors
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.board import READY, Board
from gateway.config import ConfigError, Snapshot, maps, user_files
from gateway.config.certificate_files import RefusedFile
from gateway.config.discovery import Member, Question
from gateway.config.overrides import NODE, AdminState
from gateway.config.snapshot import ServerKey
from gateway.config.units import version_text
from gateway.hardening.confinement import Bounds, active, forbid_root, protect
from gateway.load.admin_state import NAMES, decide
from gateway.process.bulletin import Bulletin
from gateway.process.channel import (
    Answered,
    Apply,
    BadReport,
    ChildEnd,
    Closed,
    Command,
    Discovered,
    Drain,
    HandOver,
    Order,
    Packed,
    Ready,
    ReopenLog,
    identity,
)
from gateway.process.child import ChildContext
from gateway.process.supervisor_status import State, SupervisorStatus
from gateway.process.tail import Wanted
from gateway.process.tail_limits import MAX_WANTED
from gateway.secrets.vault import BadState
from gateway.supervisor import handover, history, last_good, override_command, override_file, past
from gateway.supervisor.certificate_watch import CertificateWatch
from gateway.supervisor.children import GRACE, Child, Children, Place, ending
from gateway.supervisor.configuration import REFUSALS, Configuration, close_log, open_log
from gateway.supervisor.inquiries import INQUIRIES, Inquiries, Inquiry
from gateway.supervisor.last_good import NoCopy
from gateway.supervisor.operator_socket import LINE, Client, OperatorSocket, about
from gateway.supervisor.posted_site import PROBLEMS, Invalid, PostedSite, Refused, require_readable
from gateway.supervisor.roles import ROLES, Role
from gateway.supervisor.service import PidFile, Watchdog, notify, status_line
from gateway.supervisor.session_memory import SessionMemory
from gateway.supervisor.sockets import Sockets, StartError
from gateway.supervisor.tails import NoTail, Tails, pair_of_packets
from gateway.supervisor.upgrade import Upgrade, adopt, adopt_counters, handed_counters, handed_servers
from gateway.system import crash_report, descriptors, output
from loadagent.printable import LineFormatter, printable_lines
from qos.rates import JOURNAL, RateTable

log = logging.getLogger(__name__)

ORDERS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that the supervisor obeys."""
HOPELESS: Final = 3
"""Quick deaths of a process before any worker has worked, after which the gateway gives up."""
HANDOVER: Final = 15.0
"""Seconds that a process of an upgraded gateway has to hand what it holds to the next one, or give it away."""
RATES: Final = 64 << 20
"""Bytes of the table in which rates are counted; the kernel gives memory only for what is used of it."""
WARNINGS: Final = 50
"""Warnings about a site file, which are lines, in the answer to an operator; the log has all."""
TAIL: Final = "tail "
"""Begins the command that follows requests over the admin listener,"""
UNTAIL: Final = "untail "
"""and the one that ends it."""
APPLY: Final = "apply "
"""Begins the command that applies a posted site file."""
REMOTE: Final = frozenset(("reload", *override_command.COMMANDS))
"""Commands that may come over the admin listener."""
LINGER: Final = 3600.0
"""Seconds that requests and tunnels may go on in workers that a reload or an upgrade replaced."""


class Supervisor:
    """The parent of the tree, from `run` until all children have ended.

    `first` is the configuration to start with, of the site file at `path`. `received` is what a predecessor handed
    over. `command` starts a successor; without one there are no upgrades.
    """

    def __init__(
        self,
        path: Path,
        first: Configuration,
        received: handover.Received | None = None,
        pid_file: PidFile | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._now = first
        self._received = received
        self._pid_file = pid_file
        self._board = Board()
        self._rates = _rate_table(self._snapshot)
        self._rates_of = {
            role.name: RateTable(mmap.mmap(-1, role.rates), self._rates.secret) for role in ROLES if role.rates
        }
        self._sessions = SessionMemory(received.sessions if received is not None else None)
        self._numbers_used = self._traffic_numbers(self._now.sockets)
        self._supervisor_status = SupervisorStatus(sandbox=active(Bounds.of(self._now.loaded.site)))
        if (refused := first.refused) is not None:
            self._supervisor_status.start_with_last_good(refused.problems, refused.changes, refused.last_good)
        self._bulletins = {
            "supervisor": self._supervisor_status.bulletin,
            **{title: Bulletin() for role in ROLES if role.bulletin for title in role.titles},
        }
        self._selector = selectors.DefaultSelector()
        self._children = Children(self._selector, self._bulletins, self._context)
        self._upgrade = Upgrade(self._selector, list(command), self._note_failed_upgrade)
        self._watchdog = Watchdog()
        self._certificates = CertificateWatch()
        self._maps = CertificateWatch(maps.stamps)
        self._users = CertificateWatch(lambda site: user_files.stamps(site, self._now.loaded.rules))
        self._tails = Tails(self._send_to_traffic)
        self._spans = pair_of_packets()
        self._door = pair_of_packets()
        self._operators = OperatorSocket(
            self._selector,
            {"about": self._about, "reload": self._ordered_reload, "upgrade": self._ordered_upgrade},
            {command: partial(self._override, command) for command in override_command.COMMANDS},
            self._tails,
        )
        self._inquiries = Inquiries(self._selector)
        self._silent = {place for place in self._places() if place[0].traffic}
        """Those that have not reported yet that they work."""
        self._announced = False
        self._open = False
        self._reloading = 0
        """The version that workers are going over to."""
        self._reloaded_by = ""
        self._stopping = False
        self._drain_seconds: float | None = None
        """Once the gateway ends in waves: what those that carry traffic have."""
        self._wave = 0
        """The last one that was told to end."""
        self._status = 0

    @property
    def _snapshot(self) -> Snapshot:
        return self._now.snapshot

    def _places(self) -> list[Place]:
        """Where there is to be a process, in the order of the start."""
        return [(role, number) for role in ROLES for number in self._now.sockets.numbers[role.name]]

    # ------------------------------------------------------------------------------------------------------ the loop

    def run(self) -> int:
        """Start everything; return the exit status when everything has ended."""
        wakeup = self._catch_signals()
        self._clear_rows(None)
        if self._received is not None:
            adopt(self._received.servers, self._board, self._snapshot)
            if self._received.counters is not None:
                adopt_counters(self._received.counters, self._board, self._snapshot)
                self._supervisor_status.go_on(self._received.counters.events)
        for role, number in self._places():
            self._start(role, number)
        while self._children or self._upgrade.under_way or (self._children.due and not self._stopping):
            for key, _ in self._selector.select(self._timeout()):
                self._turn_to(key.data, wakeup)
            self._reap()
            self._keep_time()
        if self._pid_file is not None:
            self._pid_file.remove()
        self._operators.close()
        return self._status

    def _turn_to(self, who: object, wakeup: int) -> None:
        """Read what has come: from a child, a successor or an operator; None: signals."""
        match who:
            case None:
                for number in os.read(wakeup, 512):
                    self._signal(number)
            case handover.Successor():
                successor = self._upgrade.hear(self._now.site.drain)
                if successor is not None:
                    self._hand_over(successor)
            case OperatorSocket():
                self._operators.accept()
            case Client():
                self._operators.hear(who)
            case Inquiry():
                self._inquiries.hear(who)
            case Child():
                self._hear(who)

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
        soonest = min(
            *(self._children.soonest(), self._upgrade.deadline, self._operators.deadline, self._watchdog.deadline),
            self._inquiries.deadline,
            min(self._certificates.deadline, self._maps.deadline, self._users.deadline)
            if self._watches
            else float("inf"),
        )
        return None if soonest == float("inf") else max(0.0, soonest - time.monotonic())

    def _signal(self, number: int) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                self._stop()
            case signal.SIGHUP:
                self._reload("SIGHUP")
            case signal.SIGUSR1:
                self._reopen_log()
            case signal.SIGUSR2:
                self._start_upgrade()

    def _keep_time(self) -> None:
        now = time.monotonic()
        for role, number in self._children.take_due(now):
            self._start(role, number)
        self._children.keep_time(now)
        self._upgrade.keep_time(now, self._now.site.drain)
        self._operators.keep_time(now)
        self._inquiries.keep_time(now)
        self._watchdog.keep_time(now)
        self._watch_certificates(now)
        self._watch_maps(now)
        self._watch_users(now)

    # ------------------------------------------------------------------------------------------------------- children

    def _start(self, role: Role, number: int) -> None:
        if role.traffic:
            self._clear_cell(number)
        child = self._children.start(role, number)
        if role.traffic:
            for order, passed in self._tails.orders():
                self._children.send(child, order, passed)
        self._post()

    def _send_to_traffic(self, order: Order, passed: tuple[int, ...]) -> None:
        """Send an order to every process that carries traffic, and to those that finish theirs."""
        for child in self._children.traffic:
            if not child.retiring:
                self._children.send(child, order, passed)
            elif child.channel.fileno() >= 0:
                with suppress(Closed):  # it has just ended, as it was told to
                    child.channel.send(order, passed)

    def _context(self, role: Role, number: int, channel: ChildEnd) -> ChildContext:
        """What a new process gets, called in it: what belongs to the supervisor and to others is closed."""
        for descriptor in self._wakeup:
            os.close(descriptor)
        if self._received is not None:
            self._received.predecessor.close()
        self._upgrade.close()
        self._operators.forget()
        self._inquiries.forget()
        self._sessions.close()
        self._now.sockets.close_others(role, number)
        vault = self._now.vault_of(role)
        for other in (self._now.vaults.workers, self._now.vaults.control):
            if other is not None and other is not vault:
                other.close()
        for table in self._snapshot.maps.values():
            table.close_descriptor()
        if self._snapshot.database is not None and not role.locates:
            self._snapshot.database.close_descriptor()
        if not role.traffic:
            close_log(self._now.log_fd)
        reading, writing = self._spans
        spans = writing if role.traffic else reading if role.exports else None
        inside, outside = self._door
        door = outside if role.traffic else inside if role.answers else None
        for end in (*self._spans, *self._door):
            if end is not spans and end is not door:
                end.close()
        return ChildContext(
            number,
            self._board,
            self._snapshot,
            self._cells,
            self._now.sockets.of(role, number),
            self._now.log_fd if role.traffic else None,
            vault,
            self._rates_of.get(role.name, self._rates),
            self._sessions.table,
            self._bulletins,
            self._now.account,
            self._received is not None,
            channel,
            spans,
            door,
        )

    def _hear(self, child: Child) -> None:
        """Take what a child says: of that nothing is believed but what it is for."""
        news: dict[Question, tuple[Member, ...]] = {}
        try:
            for report in self._children.receive(child):
                match report:
                    case Ready(version) if version <= self._snapshot.version:
                        self._note_ready(child, version)
                    case Discovered(found) if child.role.discovers:
                        news.update(found)
                    case Command(number, text) if child.role.commands and _is_remote(text):
                        self._operators.carry_out(text, partial(self._answer_remotely, child, number))
                    case Command(number, text) if child.role.commands and text.startswith((TAIL, UNTAIL)):
                        self._follow_remotely(child, number, text)
                    case Command(number, text) if child.role.commands and text.startswith(APPLY):
                        self._apply(text.removeprefix(APPLY), partial(self._answer_remotely, child, number))
                    case Command(number, text) if child.role.commands and text.partition(" ")[0] in past.WORDS:
                        in_force = self._supervisor_status.history
                        self._inquiries.look_back(
                            text, self._path, in_force, partial(self._answer_remotely, child, number)
                        )
                    case Command(number, text) if child.role.commands and text.partition(" ")[0] in INQUIRIES:
                        send = partial(self._answer_remotely, child, number)
                        self._inquiries.ask(text, self._now, self._board, send)
                    case _:
                        raise BadReport(f"{type(report).__name__}, which it cannot know")
        except BadReport as error:
            self._supervisor_status.bad_reports[child.name] += 1
            self._children.condemn(child, error)
            return
        if news and not self._stopping:
            self._discover(news)

    def _answer_remotely(self, child: Child, number: int, answer: Mapping[str, Any]) -> None:
        """Send the answer to a command to the process that it came from, if that still lives."""
        if child.channel.fileno() >= 0:
            self._children.send(child, Answered(number, dict(answer)))

    def _follow_remotely(self, child: Child, number: int, text: str) -> None:
        """Begin or end a tail for an operator elsewhere; the process that answers him gets the end to read."""
        if text.startswith(UNTAIL):
            tail = text.removeprefix(UNTAIL)
            self._tails.close_of(child, int(tail) if tail.isdecimal() and len(tail) < 3 else -1)
            self._answer_remotely(child, number, {})
            return
        try:
            wanted = Wanted.parse(text.removeprefix(TAIL)[: MAX_WANTED + 1])
            opened, reading = self._tails.open(wanted, child)
        except (ValueError, NoTail) as error:
            self._answer_remotely(child, number, {"error": str(error)})
            return
        with reading:
            if child.channel.fileno() >= 0:
                self._children.send(child, Answered(number, {"tail": opened}), (reading.fileno(),))

    def _note_ready(self, child: Child, version: int) -> None:
        if child.version != version:
            log.info("%s uses load %d of the site file", child.name, version)
        child.version = version
        self._tell_reloaded()
        if child.role.traffic:
            self._announce()
            self._silent.discard(child.place)
            if not self._silent and not self._open:
                self._go_live()

    def _announce(self) -> None:
        """Say once that the site is open."""
        if self._announced:
            return
        self._announced = True
        site = self._now.site
        places = [
            str(listen) if listen.path else f"{'https' if frontend.tls else 'http'}://{listen}"
            for frontend in site.frontends
            for listen in frontend.listen
        ]
        log.info("ready: %s, %d worker%s", ", ".join(places), site.workers, "" if site.workers == 1 else "s")

    def _go_live(self) -> None:
        """Once, when every worker works: others may rely on it."""
        self._open = True
        self._post()
        if self._pid_file is not None:
            try:
                self._pid_file.write()
            except OSError as error:
                log.error("cannot write the PID file: %s", error)
        received, self._received = self._received, None
        if received is not None:
            received.predecessor.ready()
            self._now.sockets.take_over(received.files)
        if self._now.refused is None:
            self._keep_copies("start" if received is None else "upgrade")
        if received is None:
            self._notify_ready()

    def _notify_ready(self) -> None:
        """Tell the service manager that the gateway runs, and by which configuration."""
        notify(f"READY=1\nSTATUS={status_line(self._about())}")

    def _keep_copies(self, by: str) -> None:
        """Keep a copy of the configuration, also in the history; `by`: what put it into force."""
        if self._keep_last_good():
            try:
                self._supervisor_status.history = history.record(self._now.loaded, by)
            except OSError as error:
                log.warning("this configuration is not in the history: %s", (error.strerror or str(error)).lower())
        self._post()

    @property
    def _version_text(self) -> str:
        """What the configuration in use is called."""
        return version_text(self._snapshot.version, self._supervisor_status.history)

    def _keep_last_good(self) -> bool:
        """Keep a copy of the configuration, by which the gateway can start should the site file have a mistake then."""
        try:
            last_good.keep(self._now.loaded)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            where = self._now.loaded.site.state
            log.warning(
                "cannot keep the last good configuration in %s: %s: with a mistake in the site file it will not "
                "start; let `state` name a directory that it may write",
                where,
                reason,
            )
            return False
        return True

    @property
    def _state(self) -> State:
        if self._open or self._stopping:
            return "stopping" if self._stopping else "running"
        return "starting" if self._received is None else "taking over"

    def _about(self) -> dict[str, Any]:
        """What an operator's command asks first: which gateway this is."""
        last = asdict(self._supervisor_status.last_reload)
        return about(self._path, self._now.site, self._state, self._snapshot.version, last)

    def _post(self) -> None:
        """Publish the status."""
        children = {child.name: child.pid for child in self._children if not child.retiring}
        self._supervisor_status.certificates = self._now.expiry
        self._supervisor_status.post(self._state, self._traffic_numbers(self._now.sockets), children)

    def _reap(self) -> None:
        while self._children or self._upgrade.under_way:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if why := self._upgrade.reaped(pid, status):
                self._operators.settle("upgrade", {"error": why[:PROBLEMS]})  # another one may be tried
            child = self._children.remove(pid, status)
            if child is not None:
                self._tails.close_of(child)
                self._bury(child, ending(status))

    def _bury(self, child: Child, how: str) -> None:
        if child.role.traffic:
            self._clear_cell(child.number)
        if child.retiring or self._stopping:
            log.info("%s (pid %d) %s", child.name, child.pid, how)
            if self._stopping:
                self._end_next_wave()
            elif child.place in self._places():
                self._start(*child.place)  # by the new site file
            return
        self._supervisor_status.deaths[child.name] += 1
        self._post()
        failures = self._children.failures(child)
        if failures == HOPELESS and not self._announced:
            log.error("%s (pid %d) %s, again: the gateway cannot start", child.name, child.pid, how)
            self._status = 1
            self._stop()
            return
        self._children.replace(child, how, failures)

    # --------------------------------------------------------------------------------------------------------- reload

    def _ordered_reload(self) -> dict[str, Any] | None:
        """Reload for an operator; answer when the workers use the new file, or with the reason for a refusal."""
        if self._stopping:
            return {"error": "the gateway stops"}
        self._reload("command")
        return None

    def _reload(self, by: str) -> None:
        if self._stopping:
            return
        self._reloaded_by = by
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        if self._upgrade.under_way:
            log.error("reload refused: an upgrade is under way")
            self._refuse_reload("an upgrade is under way")
            return
        try:
            new = self._now.read_again(self._path, self._leaving())
        except REFUSALS as error:
            log.error("reload refused; keeping %s:\n%s", self._version_text, error)
            self._refuse_reload(str(error))
            return
        self._take_up(new)

    def _apply(self, argument: str, send: Callable[[Mapping[str, Any]], None]) -> None:
        """Take a site file that an operator has posted: a process beside this one reads it first."""
        if self._stopping or self._upgrade.under_way:
            send({"error": "the gateway stops" if self._stopping else "an upgrade is under way: try again after it"})
            return
        try:
            posted = PostedSite.of(argument, self._path, self._now.loaded)
        except Refused as error:
            send({"error": str(error)})
            return
        self._inquiries.read(posted, partial(self._take_posted, argument, send))

    def _take_posted(
        self, argument: str, send: Callable[[Mapping[str, Any]], None], outcome: Mapping[str, Any]
    ) -> None:
        """Write a site file that was read, and reload; if that is refused, the file is as before."""
        if self._stopping or self._upgrade.under_way:
            send({"error": "the gateway stops" if self._stopping else "an upgrade is under way: try again after it"})
            return
        try:
            require_readable(outcome)
            posted = PostedSite.of(argument, self._path, self._now.loaded)  # other things have happened meanwhile
            posted.write()
        except Invalid as error:
            send(self._refusal(str(error)))
            return
        except Refused as error:
            send({"error": str(error)})
            return
        log.info("by command: %s applies another site file", posted.who)

        def settled(answer: Mapping[str, Any]) -> None:
            if not answer.get("accepted"):
                try:
                    posted.take_back()
                except (Refused, OSError) as error:
                    log.error("the refused site file stays at %s: %s", posted.path, error)
            send(answer)

        self._operators.carry_out("reload", settled)

    def _refuse_reload(self, why: str) -> None:
        self._supervisor_status.reload(why, last_good.changes(self._now.loaded.source, self._path))
        self._post()
        self._notify_ready()
        self._operators.settle("reload", self._refusal(why[:PROBLEMS]))

    def _refusal(self, problems: str) -> dict[str, Any]:
        """The answer to an operator whose site file is not taken."""
        kept = self._supervisor_status.history
        return {"accepted": False, "version": self._snapshot.version, "history": kept, "problems": problems}

    def _leaving(self) -> dict[str, set[int]]:
        """Processes that only finish what runs, by role."""
        return {role.name: {c.number for c in self._children if c.role is role and c.retiring} for role in ROLES}

    def _take_up(self, new: Configuration) -> None:
        """Work by another site file from now on."""
        for warning in new.warnings:
            log.warning("%s", warning)
        before, self._now = self._now, new
        if Bounds.of(new.loaded.site) != Bounds.of(before.loaded.site):
            log.warning("sandbox, core_dumps: a change counts for processes that start from now on")
        before.vaults.close()
        finishing = {child.number for child in self._children.traffic if child.retiring}
        self._numbers_used = finishing | self._traffic_numbers(before.sockets) | self._traffic_numbers(new.sockets)
        self._clear_rows(before.snapshot)
        # Before the workers hear of it: the last owner of a socket can serve all who wait in it, and no copy
        # is left for more to come.
        before.sockets.close_except(new.sockets)
        packed = Packed.of(new.snapshot)
        for child in self._children:
            if child.role.restarts(before.snapshot, new.snapshot) and not child.retiring:
                self._children.retire(child, 0.0)
            self._pass_on(child, packed, before.sockets, log_changed=new.log_fd != before.log_fd)
        if before.log_fd != new.log_fd:
            close_log(before.log_fd)
        places = self._places()
        self._children.forget_due(places)
        self._silent &= set(places)
        taken = {child.place for child in self._children} | self._children.due.keys()
        for role, number in places:  # one that is retiring gets its successor when it has ended
            if (role, number) not in taken:
                self._start(role, number)
        self._reloading = new.snapshot.version
        self._certificates.restart()
        self._maps.restart()
        self._users.restart()
        self._supervisor_status.refused_maps = {}
        self._supervisor_status.refused_certificates = ()
        self._supervisor_status.reload()
        self._post()

    def _discover(self, news: dict[Question, tuple[Member, ...]]) -> None:
        """Servers of dns: entries have come or gone: the same site file, another snapshot."""
        before, self._now = self._now, self._now.discover(news)
        if self._snapshot is before.snapshot:
            return
        for servers, what in (
            (self._snapshot.slots.keys() - before.snapshot.slots.keys(), "found"),
            (before.snapshot.slots.keys() - self._snapshot.slots.keys(), "gone"),
        ):
            if servers:
                log.info("servers %s by name: %s", what, ", ".join(sorted("/".join(server) for server in servers)))
        self._clear_rows(before.snapshot)
        packed = Packed.of(self._snapshot)
        for child in self._children:
            self._pass_on(child, packed, self._now.sockets, log_changed=False)

    def _pass_on(self, child: Child, packed: Packed, before: Sockets, *, log_changed: bool) -> None:
        """Bring one child up to date with a packed snapshot, or let it go."""
        if child.retiring:
            return
        role = child.role
        if child.place not in self._places():
            self._children.retire(child, LINGER if role.traffic else 0.0)
            return
        sockets = self._now.sockets.of(role, child.number)
        have = before.of(role, child.number)
        new = [(name, place) for name, places in sockets.items() for place in places if place not in have.get(name, ())]
        passed = [sock.fileno() for _, (_, sock) in new]
        log_fd = self._now.log_fd if role.traffic and log_changed else None
        if log_fd is not None:
            passed.append(log_fd)
        vault = self._now.vault_of(role)
        if vault is not None:
            passed.append(vault.fileno())
        tables = self._snapshot.maps if role.traffic else {}
        passed += [table.fileno() for table in tables.values()]
        database = self._snapshot.database if role.locates else None
        if database is not None:
            passed.append(database.fileno())
        order = Apply(
            packed if role.traffic else packed.bare,
            self._cells,
            frozenset(identity(sock) for places in sockets.values() for _, sock in places),
            tuple((name, listen) for name, (listen, _) in new),
            log=log_fd is not None,
            vault=vault is not None,
            maps=tuple(tables),
            database=database is not None,
        )
        self._children.send(child, order, tuple(passed))

    @property
    def _watches(self) -> bool:
        """Whether changed certificates are taken up now."""
        return self._open and not self._stopping and not self._upgrade.under_way

    def _watch_certificates(self, now: float) -> None:
        """Take up certificates whose files have changed, and warn once a day of those that expire."""
        if not self._watches:
            return
        if self._certificates.due(now):
            for warning in self._now.expiry.concerns(time.time()):
                log.warning("%s", warning)
        if self._certificates.changed(now, self._now.loaded.site, self._now.stamps):
            self._renew_certificates()

    def _renew_certificates(self) -> None:
        """Work by the certificates as they are on disk now; one that cannot be used stays as it was."""
        try:
            new, refused, changed = self._now.renew_certificates()
        except (ConfigError, BadState) as error:
            log.error("certificates have changed, but cannot be used; keeping all as they were:\n%s", error)
            self._supervisor_status.renew_certificates([RefusedFile(str(self._path), str(error))], changed=False)
            self._now = self._now.renewal_failed()
            self._post()
            return
        for one in self._supervisor_status.renew_certificates(refused, changed=changed):
            log.error("certificate refused: %s", one)
        before, self._now = self._now, new
        before.vaults.close()
        packed = Packed.of(self._snapshot)
        for child in self._children:
            if self._now.vault_of(child.role) is not None:
                self._pass_on(child, packed, self._now.sockets, log_changed=False)
        if changed or not refused:
            log.info("certificates renewed: %d in use", self._now.expiry.count)
        self._certificates.restart()
        self._post()

    def _watch_maps(self, now: float) -> None:
        """Take up maps whose files have changed; one that cannot be used stays as it was."""
        if not self._watches or not self._maps.changed(now, self._now.loaded.site, self._now.loaded.map_stamps):
            return
        self._now, read = self._now.renew_maps()
        for name, wrong in read.items():
            if name == maps.MAXMIND:
                self._say_database(wrong)
            elif wrong:
                log.error("map %s keeps its previous content: %s", name, wrong)
            else:
                log.info("map %s renewed: %d entries", name, len(self._snapshot.maps[name]))
        self._supervisor_status.renew_maps(read)
        packed = Packed.of(self._snapshot)
        for child in self._children:
            self._pass_on(child, packed, self._now.sockets, log_changed=False)
        self._maps.restart()
        self._post()
        if self._now.refused is None:
            self._keep_last_good()

    def _say_database(self, wrong: str) -> None:
        """Log what became of a MaxMind file that has changed."""
        database = self._snapshot.database
        if wrong:
            kept = f"the previous one, {database.name}, stays in use" if database is not None else "there is none"
            log.error("the MaxMind file has changed, but cannot be used; %s: %s", kept, wrong)
        elif database is not None:
            log.info("the MaxMind file is renewed: %s", database.name)

    def _watch_users(self, now: float) -> None:
        """Take up files of users that have changed; one that cannot be used stays as it was."""
        if not self._watches or not self._users.changed(now, self._now.loaded.site, self._now.loaded.user_stamps):
            return
        self._now, read = self._now.renew_users()
        for path, wrong in read.items():
            if wrong:
                log.error("the users of %s stay as they were: %s", path, wrong)
            else:
                log.info("the users of %s are renewed", path)
        packed = Packed.of(self._snapshot)
        for child in self._children:
            self._pass_on(child, packed, self._now.sockets, log_changed=False)
        self._users.restart()

    def _tell_reloaded(self) -> None:
        """Say so once every worker works by the new site file."""
        workers = [child for child in self._children.traffic if not child.retiring]
        if self._reloading and all(child.version >= self._reloading for child in workers):
            self._keep_copies(self._reloaded_by)
            self._notify_ready()
            log.info("reloaded: %s of the site file", self._version_text)
            warnings = [str(warning) for warning in self._now.warnings][:WARNINGS]
            kept = self._supervisor_status.history
            answer = {"accepted": True, "version": self._reloading, "history": kept, "problems": ""}
            self._operators.settle("reload", {**answer, "warnings": warnings})
            self._reloading = 0

    # ------------------------------------------------------------------------------------------------------ overrides

    def _override(self, command: str, argument: str) -> dict[str, Any]:
        """Drain a server, and the like, for an operator."""
        if self._stopping or self._upgrade.under_way:
            return {"error": "the gateway stops" if self._stopping else "an upgrade is under way: try again after it"}
        before = self._snapshot
        try:
            overrides = override_command.change(before, command, argument, self._admin_state, time.time())
        except override_command.Refused as error:
            return {"error": str(error)}
        problem = ""
        try:
            override_file.keep(self._now.loaded, overrides)
        except OSError as error:
            problem = f"it is not kept over a restart: {(error.strerror or str(error)).lower()}"
            log.warning("what gateway %s sets: %s", command, problem)
        log.info("by command: %s %s", command, "this gateway" if argument == NODE else argument)
        self._now = self._now.with_overrides(overrides)
        packed = Packed.of(self._snapshot)
        weighed = any(before.members(name) != self._snapshot.members(name) for name in before.site.backends)
        for child in self._children:
            if weighed or not child.role.traffic:
                self._pass_on(child, packed, self._now.sockets, log_changed=False)
        return {"serial": overrides.serial, "problem": problem}

    def _admin_state(self, key: ServerKey) -> AdminState:
        return NAMES.get(self._board.admin(self._snapshot.slots[key]), "ready")

    # ----------------------------------------------------------------------------------------------------------- stop

    def _stop(self) -> None:
        if self._stopping:
            log.warning("second stop signal: stopping immediately")
            self._children.kill_all()
            return
        self._stopping = True
        self._children.due.clear()
        self._post()
        notify("STOPPING=1")
        drain = self._now.site.drain
        log.info("stopping: running requests have %gs", drain)
        self._upgrade.give_up("the gateway stops", drain)
        for child in self._children:
            if child.role.stands_by and not child.retiring:
                self._children.send(child, Drain(max(drain, GRACE)))
        self._now.sockets.close_except(Sockets())
        self._drain_seconds = drain
        self._end_next_wave()

    def _end_next_wave(self) -> None:
        """Tell the next processes to end, once those before them have ended."""
        wave = min((child.role.wave for child in self._children), default=0)
        if self._drain_seconds is None or wave <= self._wave:
            return
        self._wave = wave
        for child in self._children:
            if child.role.wave == wave and child.role.traffic:
                self._children.retire(child, self._drain_seconds)
            elif child.role.wave == wave and not child.retiring:
                self._children.retire(child, 0.0)

    # -------------------------------------------------------------------------------------------------------- upgrade

    def _ordered_upgrade(self) -> dict[str, Any] | None:
        """Upgrade for an operator; answer when the successor carries the traffic, or with the reason for a failure."""
        why = self._start_upgrade()
        return {"error": why} if why else None

    def _start_upgrade(self) -> str:
        """Start a successor; return why there is none, or an empty text."""
        if self._stopping:
            why = "the gateway stops"
            log.error("upgrade refused: %s", why)
            return why
        servers = handed_servers(self._board, self._snapshot)
        counters = handed_counters(self._board, self._snapshot, self._supervisor_status.counted())
        return self._upgrade.start(self._now.sockets, servers, self._sessions.fileno(), counters)

    def _hand_over(self, successor: int) -> None:
        """The successor carries traffic: accept no more, and end when the last request and tunnel have."""
        self._stopping = True
        self._children.due.clear()
        self._now.sockets.leave_files()
        notify(f"MAINPID={successor}")
        log.info("upgrade: pid %d has taken over; what runs here may finish", successor)
        self._operators.settle("upgrade", {"pid": successor})
        self._operators.tell_followers({"successor": successor})
        for child in self._children:
            if child.role.hands_over and not child.retiring:
                self._children.retire(child, HANDOVER, HandOver())
        self._now.sockets.close_except(Sockets())
        for child in self._children.traffic:
            self._children.retire(child, LINGER)
        for child in self._children:  # reports and checks are the successor's now
            if not child.retiring:
                self._children.retire(child, 0.0)

    def _note_failed_upgrade(self) -> None:
        self._supervisor_status.upgrades_failed += 1
        self._post()

    # --------------------------------------------------------------------------------------------------- log and board

    def _reopen_log(self) -> None:
        """After a rotation (SIGUSR1): the same name, a new file."""
        try:
            log_fd = open_log(self._now.site)
        except StartError as error:
            log.error("cannot reopen the access log; keeping the old file: %s", error)
            return
        before = self._now.log_fd
        self._now = self._now.with_log(log_fd)
        if log_fd is None or log_fd <= 2:
            return
        for child in self._children.traffic:
            self._children.send(child, ReopenLog(), (log_fd,))
        close_log(before)
        log.info("access log reopened")

    @property
    def _cells(self) -> int:
        """Of the Board, one for each process that carries traffic; those that only finish included."""
        return 1 + max(self._numbers_used, default=0)

    def _traffic_numbers(self, sockets: Sockets) -> set[int]:
        return {number for role in ROLES if role.traffic for number in sockets.numbers[role.name]}

    def _clear_rows(self, before: Snapshot | None) -> None:
        """Clear the rows of the board that have got a new owner since the snapshot `before`.

        What commands have set counts from a server's first request on, before control has seen it.
        """
        now = self._snapshot
        known = set(before.slots.values() if before else ())
        for key, row in now.slots.items():
            if row not in known:
                self._board.clear_server(row)
                self._board.set_admin(row, decide(now.overrides.server(*key), READY, idle=False)[0])
        for row in set(now.traffic.values()) - set(before.traffic.values() if before else ()):
            self._board.clear_traffic(row)

    def _clear_cell(self, number: int) -> None:
        """Reset the gauges of a worker that has exited or not started."""
        self._board.clear_worker(number, self._snapshot.server_rows.unused, self._snapshot.traffic_rows.unused)


def _is_remote(command: str) -> bool:
    """Whether a command may come over the admin listener."""
    return len(command) <= LINE and command.partition(" ")[0] in REMOTE


def _rate_table(snapshot: Snapshot) -> RateTable:
    """The table of rates. Gateways that tell each other what they count hash keys alike, and note what they count."""
    cluster = snapshot.site.cluster
    if cluster is None or cluster.listen is None:
        return RateTable(mmap.mmap(-1, RATES), os.urandom(16))
    secret = hmac.digest(snapshot.files[cluster.key_file].strip(), b"gateway rates 1", "sha256")[:16]
    return RateTable(mmap.mmap(-1, RATES), secret, mmap.mmap(-1, JOURNAL))


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


def run(path: Path, pid_file: Path | None = None, command: Sequence[str] = (), *, strict: bool = False) -> int:
    """Run the site file at `path` until SIGTERM or SIGINT; the exit status. Problems are printed on standard error.

    `command` is what starts another one for an upgrade. If this one was started so, it takes over. Unless `strict`, it
    starts with the last good configuration if the site file has mistakes.
    """
    set_up_log("supervisor")
    protect(Bounds())  # before a key is read; the site file may allow more
    _raise_limits()
    received = None
    try:
        received = handover.receive(os.environ)
        if received is None:
            forbid_root()  # else the predecessor's filter holds
        descriptors.close_strangers()
        first = _first_configuration(path, received, strict=strict)
        supervisor = Supervisor(path, first, received, PidFile(pid_file) if pid_file is not None else None, command)
    except (*REFUSALS, handover.BadHandover) as error:
        text = _with_notes(error) if isinstance(error, ConfigError) else f"{path}: {_with_notes(error)}"
        if received is not None:
            received.predecessor.failed(text)  # whose log it is, too
        else:
            sys.stderr.write(f"{printable_lines(text)}\n")
        return 1
    gc.freeze()
    return supervisor.run()


def _first_configuration(path: Path, received: handover.Received | None, *, strict: bool) -> Configuration:
    """The configuration to start with. Raises one of REFUSALS.

    A successor reads the site file, or leaves the traffic to its predecessor, whose configuration is at least as good
    as the copy.
    """
    try:
        return Configuration.first(path, received.sockets if received is not None else Sockets())
    except REFUSALS as error:
        if received is not None or strict:
            raise
        try:
            return Configuration.last_good(path, error)
        except NoCopy as why:
            error.add_note(f"cannot start with the last good configuration instead: {why}")
            raise error from None


def _with_notes(error: Exception) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", ())])
