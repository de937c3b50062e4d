"""The heartbeat process: carries out the node's beats and actions with sockets, interfaces and time."""

import contextlib
import gc
import hashlib
import json
import logging
import os
import secrets
import selectors
import signal
import socket
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final

from pyroute2 import IPRoute

from gateway.board import DOWN
from gateway.config.cluster import Cluster, Resource, SharedAddress
from gateway.hardening import kernel, roles
from gateway.hardening.account import Account
from gateway.hardening.confinement import Bounds, become, confine, confine_thread, settle
from gateway.heartbeat import announcing, fence, frames, handover, health, interfaces, links, node_lock, probing, status
from gateway.heartbeat.beat import AdminState, BadBeat, Codec
from gateway.heartbeat.counters import Counters
from gateway.heartbeat.damping import Damper
from gateway.heartbeat.disk import Disk
from gateway.heartbeat.evacuation import Evacuation
from gateway.heartbeat.fence import Deadlines, NoFence
from gateway.heartbeat.fitness import Fitness
from gateway.heartbeat.guardian import FAILED, Guardian, Ward, clock
from gateway.heartbeat.handover import BadHandover
from gateway.heartbeat.interfaces import Interface, NoInterface
from gateway.heartbeat.jobs import Job, Jobs, Run
from gateway.heartbeat.lease import DRIFT
from gateway.heartbeat.links import Link, NoLink, Udp
from gateway.heartbeat.membership import Refused
from gateway.heartbeat.node import (
    HURRY,
    Announce,
    Drop,
    Hold,
    Node,
    Note,
    Probe,
    Release,
    Send,
    Settings,
    Shared,
    Take,
)
from gateway.heartbeat.node_lock import Handover, NoLock, Orphaned
from gateway.heartbeat.ownership import State
from gateway.heartbeat.privileges import hurry
from gateway.heartbeat.probing import Probing
from gateway.heartbeat.refused import RefusedBeats
from gateway.heartbeat.request import Request
from gateway.heartbeat.status import Listener
from gateway.heartbeat.virtual_mac import VirtualMac
from gateway.process.child import CannotStart, Child, ChildContext, Update, Work
from gateway.process.supervisor_status import silences
from gateway.system import crash_report, descriptors

log = logging.getLogger("gateway.heartbeat")

LOOK: Final = 0.1
"""Seconds between two checks of the gateway's own health."""
ROUTER_TIMEOUT: Final = 3.0
CONTEST: Final = 3.0
"""Seconds for which a duplicate of an address may answer before the takeover is abandoned."""
HANDOVER: Final = 10.0
"""Seconds within which the next gateway's heartbeat must request the handover."""
HISTORY: Final = 200
POST: Final = 0.5
"""Seconds between two messages to control."""


@dataclass(slots=True)
class Lane:
    """One shared address with its interface and jobs."""

    shared: SharedAddress
    interface: Interface
    """The interface of its neighbours."""
    home: Interface | VirtualMac
    slot: int
    up: bool = False
    resources: tuple[Resource, ...] = ()
    started: list[Resource] = field(default_factory=list)
    contender: str | None = None
    """The hardware address of another host that answered for it recently."""
    probing: Probing | None = None
    """The probes before a takeover."""
    renewed: float = 0.0

    def say(self) -> None:
        """Announce to the neighbours that the address is here."""
        self.interface.announce(self.shared.ip, self.home.mac)


def prepare(context: ChildContext) -> Work:
    """Create the process, confined, ready to beat. Raises CannotStart."""
    cluster = context.snapshot.site.cluster
    if cluster is None:
        raise CannotStart("the site file has no cluster")
    try:
        return Heartbeat(context, cluster).run
    except Orphaned:
        raise CannotStart("the supervisor has exited") from None
    except (NoLink, NoLock, NoInterface, BadHandover, OSError) as error:
        raise CannotStart(str(error)) from None


class Heartbeat(Child):
    """The whole process. Created as root; drops privileges that it does not need."""

    def __init__(self, context: ChildContext, cluster: Cluster) -> None:
        super().__init__(context.channel)
        self._tree, self._bulletin = context.bulletins["supervisor"], context.bulletins["heartbeat"]
        self._evacuation = Evacuation(context.bulletins["control"])
        self._board = context.board
        self._snapshot = context.snapshot
        self._cluster = cluster
        site = context.snapshot.site
        key = context.snapshot.files[cluster.key_file].strip()
        self._codec = Codec(key, cluster.name or "")
        self._selector = selectors.DefaultSelector()
        self._netlink = IPRoute()
        names = dict.fromkeys(shared.interface for shared in cluster.addresses)
        self._interfaces = {name: Interface(name, self._netlink) for name in names}
        self._fitness = {name: Fitness(name) for name in names}
        self._jobs = Jobs(self._start_program)
        self.counters, self.refused = Counters(), RefusedBeats()
        self._programs: dict[int, str] = {}
        """Running programs: their numbers at the guardian, and their names."""
        self.history: deque[tuple[float, str, str]] = deque(maxlen=HISTORY)
        self.damper = Damper(0)
        self.health = health.Health(0, "starting")
        self._looked = self._posted = float("-inf")
        self._router: tuple[Interface, str, str] | None = None
        self._router_seen = clock()
        self._stopping = False
        self._handover_until: float | None = None
        """Until when the next gateway's process may request the handover."""
        self._handed_over = False
        self._done = False
        self._find_router()
        hurry()
        # From here to the first beat time matters: the leases of addresses handed over are running.
        self._lock, self._received = node_lock.enter(site.admin.sockets, handover.terms(site.node, cluster, key))
        received_sockets = self._received.sockets if self._received is not None else ()
        self._links = links.open_all(cluster, site.node, self._codec, received_sockets)
        self._lanes = {
            shared.ip: Lane(
                shared,
                self._interfaces[shared.interface],
                self._home(shared),
                slot,
                resources=tuple(resource for resource in cluster.resources if resource.on == shared.ip),
            )
            for slot, shared in enumerate(cluster.addresses)
        }
        for ip, lane in self._lanes.items():  # addresses that an earlier process may have left
            if self._received is None or ip not in self._received.state["holdings"]:
                lane.home.remove(lane.shared.address)
        self._deadlines, self.fence = self._raise_fence()
        self._guardian = self._start_guardian(context.account)
        self._listener = Listener(site.admin.sockets / "heartbeat.sock", self._selector, self._command)
        disks = [link for link in self._links if isinstance(link, Disk)]
        for disk in disks:  # after the fork: threads do not survive it
            disk.start()
        bounds = Bounds.of(site)
        become(context.account, roles.HEARTBEAT)
        for disk in disks:
            disk.go(partial(confine_thread, roles.HEARTBEAT, bounds))
        confine(roles.HEARTBEAT, bounds)
        self.node = Node(_settings(site.node, cluster), secrets.randbits(63), clock())
        if self._received is not None:
            self._take_over(self._received)
        self.doubts = self._doubts()

    # ------------------------------------------------------------------------------------------------------ beginning

    def _home(self, shared: SharedAddress) -> Interface | VirtualMac:
        below = self._interfaces[shared.interface]
        number = shared.virtual_mac
        if number is None:
            return below
        keep = self._received is not None
        return VirtualMac(below, shared.address.version, number, self._netlink, keep=keep)

    def _take_over(self, received: Handover) -> None:
        """Continue from the state of the previous process."""
        handover.adopt(self.node, received.state, self._codec)
        about = received.state["process"]
        self.counters.adopt(about)
        self.history.extend((at, what, text) for at, what, text in about["history"])
        for ip, names in about["started"].items():
            lane = self._lanes[ip]
            lane.up = True
            lane.started = [resource for resource in lane.resources if resource.name in names]
            self._jobs.add(ip, announcing.repeat(lane.say), clock())
            for resource in lane.started:
                if resource.monitor:
                    self._jobs.add(ip, self._monitor(lane, resource), clock())
        self._note(self.node.settings.node, "another process goes on")

    def _raise_fence(self) -> tuple[Deadlines, str]:
        """Create the deadlines, in the kernel if possible; return them and the way in which leases are enforced."""
        try:
            deadlines = Deadlines.create() if self._received is None else Deadlines(self._received.deadlines)
            for name, interface in self._interfaces.items():
                slots = {ip: lane.slot for ip, lane in self._lanes.items() if lane.shared.interface == name}
                fence.attach(self._netlink, interface.index, slots, deadlines)
        except NoFence as reason:
            log.warning("no lease in the kernel (%s): a stopped process is noticed by the guardian only", reason)
            return Deadlines.create_without_kernel(), f"guardian only: {reason}"
        return deadlines, "kernel"

    def _start_guardian(self, account: Account | None) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        cluster = self._cluster
        wards = [Ward(lane.shared, lane.slot, lane.home.index) for lane in self._lanes.values()]
        started = self._received.state["process"]["started"] if self._received is not None else {}
        running = [self._resource(item, "start") for item in cluster.resources if item.name in started.get(item.on, ())]
        named = {cluster.fence, cluster.on_takeover, cluster.on_release, *(item.run for item in cluster.resources)}
        programs = frozenset(filter(None, named))
        pid = os.fork()
        if pid == 0:
            ended = 1
            try:
                crash_report.enable("guardian")
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                # The lock stays open: until addresses are removed and programs stopped, no other process may act as
                # this node.
                descriptors.close_all_but({theirs.fileno(), self._lock.fileno()})
                kernel.set_name("gw-guardian")
                hurry()
                guardian = Guardian(theirs, wards, self._deadlines, programs, running)
                role = roles.PROGRAMS if programs else roles.GUARDIAN
                settle(account, role, Bounds.of(self._snapshot.site))
                guardian.run()
                ended = 0
            except BaseException:
                log.exception("the guardian ends")
            finally:
                logging.shutdown()
                os._exit(ended)
        theirs.close()
        self._guardian_pid = pid
        ours.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        return ours

    def _find_router(self) -> None:
        for interface in self._interfaces.values():
            target = self._cluster.router or interfaces.router(self._netlink, interface)
            own = interfaces.own_address(self._netlink, interface, target) if target and ":" not in target else None
            if target and own:
                self._router = interface, target, own
                return

    def _doubts(self) -> list[str]:
        found: list[str] = []
        for name in self._interfaces:
            versions = {lane.shared.address.version for lane in self._lanes.values() if lane.shared.interface == name}
            found += interfaces.doubts(name, ipv4=4 in versions, ipv6=6 in versions)
        found += [doubt for link in self._links if isinstance(link, Disk) for doubt in link.doubts()]
        for doubt in found:
            log.warning("%s", doubt)
        if len(self._cluster.nodes) == 2 and self._cluster.witness is None:
            found.append("two nodes without a witness: if they lose sight of each other, both may own an address")
        return found

    # -------------------------------------------------------------------------------------------------------- the loop

    def run(self) -> None:
        """Beat until told to stop."""
        self._evacuation.look(clock())
        if self._snapshot.overrides.node is not None or self._evacuation.released:
            self.node.admin_state = self._wanted()
        signal.signal(signal.SIGTERM, self._terminate)
        for link in self._links:
            self._selector.register(link.fileno(), selectors.EVENT_READ, lambda link=link: self._read(link))
        for interface in self._interfaces.values():
            for sock in (interface.arp, interface.icmp):
                self._selector.register(sock, selectors.EVENT_READ, lambda interface=interface: self._sight(interface))
        self._selector.register(self.channel, selectors.EVENT_READ, self.obey)
        self._selector.register(self._guardian, selectors.EVENT_READ, self._hear_guardian)
        self._lock.watch(self._selector)
        self.ready(self._snapshot.version)
        if self._router is not None:
            self._jobs.add("router", self._watch_router(), clock())
        gc.collect()
        gc.freeze()
        step = self._cluster.heartbeat.interval / HURRY
        due = clock()
        while not self._done:
            now = clock()
            if due <= now:
                due = now + step
            soonest = min(due, self.node.deadline(), self._jobs.next_due())
            for key, _ in self._selector.select(max(0.0, soonest - now)):
                key.data()
            self._turn()
        self._end()

    def _turn(self) -> None:
        now = clock()
        self._look(now)
        if self._evacuation.look(now):
            self.node.set_admin_state(self._wanted(), now)
        self.node.tick(now)
        self._act()
        self._jobs.tick(now)
        self._renew(now)
        self._act()
        self._post(now)
        if self._handover_until is not None:
            self._try_handover(now)
        if self._stopping and self.node.done:
            self._jobs.cancel("router")  # the only one that never ends
            self._done = self._done or not len(self._jobs)

    def _terminate(self, *_: object) -> None:
        self._stopping = True

    def _try_handover(self, now: float) -> None:
        """Hand over to the waiting process, at a moment when no job is running."""
        owned = [ip for ip, holding in self.node.holdings.items() if holding.state is State.OWNER]
        lanes = [self._lanes[ip] for ip in owned]
        settled = all(lane.up and len(lane.started) == len(lane.resources) for lane in lanes) and all(
            lane.up == (ip in owned) for ip, lane in self._lanes.items()
        )
        leaving = any(holding.leaving for holding in self.node.holdings.values())
        if self._lock.has_successor and settled and not leaving:
            self._handover_until = None
            state = handover.hand_over(self.node, self._codec)
            state["process"] = {
                "started": {lane.shared.ip: [resource.name for resource in lane.started] for lane in lanes},
                **self.counters.handed_over(),
                "history": list(self.history),
            }
            sockets = [link.fileno() for link in self._links if isinstance(link, Udp)]
            self._handed_over = self._lock.hand_over(state, self._deadlines.descriptor, sockets)
            self._done = self._handed_over
        elif not self._lock.refused and now < (self._handover_until or now):
            return
        if not self._handed_over:
            self._handover_until = None
            self._stopping = True
            self.node.stop(now)

    def _end(self) -> None:
        for link in self._links:
            if isinstance(link, Udp):  # before the lock is free: the next process binds the same ports
                link.close()
        if not self._handed_over:
            self._clean()
        with contextlib.suppress(OSError):
            self._guardian.setblocking(True)  # noqa: FBT003 - the socket module's own signature
            self._guardian.send(b"bye")
            os.waitpid(self._guardian_pid, 0)
        self._listener.close()
        for link in self._links:
            if not isinstance(link, Udp):
                link.close()

    def _clean(self) -> None:
        self._lock.close()
        for lane in self._lanes.values():
            if isinstance(lane.home, VirtualMac):
                lane.home.close()
        for name, interface in self._interfaces.items():
            fence.detach(self._netlink, interface.index)
            log.info("no shared address left on %s", name)

    def _read(self, link: Link) -> None:
        for data in link.receive():
            try:
                self.node.receive(self._codec.decode(data), link.name, clock())
            except BadBeat as bad:
                self.counters.refused[f"bad: {bad}"] += 1
                self.refused.note(str(bad), link.sender, clock())
            except Refused as refused:
                self.counters.refused[f"refused: {refused}"] += 1
                self.refused.note(str(refused), link.sender, clock())
            self._act()

    def _sight(self, interface: Interface) -> None:
        now = clock()
        for sighting in interface.sightings():
            if self._router is not None and sighting.sender == self._router[1]:
                self._router_seen = now
            lane = self._lanes.get(sighting.sender)
            if lane is None or lane.interface is not interface:
                continue
            lane.contender = sighting.mac.hex(":")
            if lane.probing is not None:
                lane.probing.hear(lane.contender, now)
            if lane.up:
                self.counters.contests[lane.shared.ip] += 1
                self._note(lane.shared.ip, f"also announced by {lane.contender}")
                self._jobs.add(lane.shared.ip, announcing.defend(lane.say), now)

    def apply(self, update: Update) -> None:
        """Use another snapshot to judge this gateway; the cluster is the same."""
        before, self._snapshot = self._snapshot.overrides.node, update.snapshot
        if self._snapshot.overrides.node != before:
            self.node.set_admin_state(self._wanted(), clock())
            self._act()
        self.ready(self._snapshot.version)

    def _wanted(self) -> AdminState:
        """The admin state by command; once nothing is left at an evacuated site, its addresses go to other nodes."""
        by_command = _BY_COMMAND.get(self._snapshot.overrides.node, AdminState.JOIN)
        return AdminState.DRAIN if self._evacuation.released and by_command is AdminState.JOIN else by_command

    def hand_over(self) -> None:
        """Hand everything over to the next gateway's process, as soon as it requests it."""
        self._handover_until = clock() + HANDOVER

    def drain(self, seconds: float) -> None:
        """Give every address away; end if no time is given, otherwise continue as a standby."""
        if seconds:
            self.node.set_admin_state(AdminState.STANDBY, clock())
        else:
            self._stopping = True
            self.node.stop(clock())

    def orphaned(self) -> None:
        """Give every address away and end."""
        log.error("the supervisor has exited; giving every address away")
        self._selector.unregister(self.channel)
        self._stopping = True
        self.node.stop(clock())

    # ---------------------------------------------------------------------------------------------------------- actions

    def _act(self) -> None:
        """Carry out the node's actions, in order."""
        while self.node.actions:
            actions, self.node.actions = self.node.actions, []
            for action in actions:
                self._do(action)

    def _do(self, action: Any) -> None:
        now = clock()
        match action:
            case Send(beat):
                data = self._codec.encode(beat)
                for link in self._links:
                    link.send(data)
            case Probe(address, when):
                lane = self._lanes[address]
                self._jobs.add(f"probe {address}", self._foresee(lane, when), now)
            case Hold(address, until):
                self._deadlines.set(self._lanes[address].slot, until)
            case Take(address, victim):
                self._jobs.cancel(address)
                self._jobs.add(address, self._take(self._lanes[address], victim), now)
            case Drop(address, reason):
                lane = self._lanes[address]
                self._take_down(lane)
                self._jobs.add(f"after {address}", self._clear(lane, reason), now)
            case Release(address, reason):
                lane = self._lanes[address]
                self._jobs.cancel(address)
                self._jobs.add(address, self._release(lane, reason), now)
            case Announce(address):
                lane = self._lanes[address]
                if lane.up:
                    self._jobs.add(address, announcing.defend(lane.say), now)
            case Note(about, text):
                self._note(about, text)

    def _note(self, about: str, text: str) -> None:
        self.history.append((time.time(), about, text))
        log.info("%s: %s", about, text)

    def _take(self, lane: Lane, victim: str | None) -> Job:
        """All steps of a takeover, while the lease is held."""
        ip = lane.shared.ip
        if self._cluster.fence is not None and victim is not None:
            failed = yield self._run(self._cluster.fence, lane, "fence", victim=victim)
            if failed:
                self.node.refuse(ip, f"fencing of {victim} failed with status {failed}", clock())
                return
        yield from self._probe(lane)
        if lane.contender is not None:
            self.node.refuse(ip, f"{lane.contender} answers for the address", clock())
            return
        try:
            lane.home.add(lane.shared.address)
        except OSError as error:
            self.node.refuse(ip, f"cannot be added to {lane.interface.name}: {error.strerror}", clock())
            return
        lane.up, lane.renewed = True, clock()
        self.counters.takeovers[ip] += 1
        self._jobs.add(ip, announcing.announce(lane.say), clock())
        for resource in lane.resources:
            lane.started.append(resource)
            failed = yield self._resource(resource, "start")
            if failed:
                self.node.refuse(ip, f"{resource.name} did not start (status {failed})", clock())
                return
            if resource.monitor:
                self._jobs.add(ip, self._monitor(lane, resource), clock())
        if self._cluster.on_takeover is not None:
            yield self._run(self._cluster.on_takeover, lane, "takeover", victim=victim)

    def _foresee(self, lane: Lane, when: float) -> Job:
        """Probe before the takeover that is expected at `when` or a little later."""
        pause = probing.pause(self._cluster.heartbeat.interval)
        lane.probing = Probing(clock(), when + pause, lane.contender)
        while clock() < lane.probing.end:
            self._ask_for(lane)
            yield pause / 4

    def _probe(self, lane: Lane) -> Job:
        """Probe for an owner of the address; return when there was no answer for a moment."""
        beat = self._cluster.heartbeat
        now = clock()
        if lane.probing is not None and now < lane.probing.end:
            self._jobs.cancel(f"probe {lane.shared.ip}")
            free = now - DRIFT * beat.dead_after  # a promise is longer than the lease it allows by this much
            wait = lane.probing.answered_by(free, beat.interval) - now
            if wait > 0:
                self._ask_for(lane)
                yield wait
            self._sight(lane.interface)
            lane.contender = lane.probing.duplicate(free)
            if lane.contender is None:
                return
        pause = probing.pause(beat.interval)
        end = now + CONTEST
        while clock() < end:
            lane.contender = None
            for _ in range(2):
                self._ask_for(lane)
                yield pause
            if lane.contender is None:
                return

    def _ask_for(self, lane: Lane) -> None:
        lane.interface.send(frames.probe(lane.shared.ip, lane.interface.mac))

    def _monitor(self, lane: Lane, resource: Resource) -> Job:
        failures = 0
        while True:
            yield resource.monitor or 0.0
            failed = yield self._resource(resource, "monitor")
            if not failed:
                failures = 0
                continue
            failures += 1
            self._note(resource.name, f"monitor failed with status {failed}, {failures} in a row")
            if failures >= resource.failures:
                self.node.refuse(lane.shared.ip, f"{resource.name} failed {failures} times", clock())
                return
            yield self._resource(resource, "stop")
            yield self._resource(resource, "start")

    def _release(self, lane: Lane, reason: str) -> Job:
        """Give the address away in order: programs first, then the address; never announce."""
        yield from self._stop_resources(lane)
        self._take_down(lane, keep_jobs=True)
        self.node.released(lane.shared.ip, clock())
        self._jobs.add(f"after {lane.shared.ip}", self._clear(lane, reason), clock())

    def _clear(self, lane: Lane, reason: str) -> Job:
        """After the address was removed."""
        yield from self._stop_resources(lane)
        if self._cluster.on_release is not None:
            yield self._run(self._cluster.on_release, lane, "release", reason=reason)

    def _stop_resources(self, lane: Lane) -> Job:
        while lane.started:
            yield self._resource(lane.started.pop(), "stop")

    def _take_down(self, lane: Lane, *, keep_jobs: bool = False) -> None:
        self._deadlines.set(lane.slot, 0.0)
        lane.home.remove(lane.shared.address)
        self.counters.releases[lane.shared.ip] += lane.up
        lane.up = False
        if not keep_jobs:
            self._jobs.cancel(lane.shared.ip)

    def _renew(self, now: float) -> None:
        """Renew the addresses in the kernel."""
        for lane in self._lanes.values():
            if lane.up and now - lane.renewed >= interfaces.RENEW:
                lane.renewed = now
                try:
                    lane.home.add(lane.shared.address)
                except OSError as error:
                    self.node.refuse(lane.shared.ip, f"cannot be kept on {lane.interface.name}: {error}", now)

    # -------------------------------------------------------------------------------------------------------- programs

    def _run(self, program: str, lane: Lane, event: str, **more: str | None) -> Run:
        environment = {
            "GATEWAY_EVENT": event,
            "GATEWAY_NODE": self.node.settings.node,
            "GATEWAY_ADDRESS": str(lane.shared.address),
            "GATEWAY_INTERFACE": lane.interface.name,
            **{f"GATEWAY_{key.upper()}": value for key, value in more.items() if value is not None},
        }
        return Run(program, (), environment, queue=event)

    def _resource(self, resource: Resource, action: str) -> Run:
        environment = {"OCF_RESOURCE_INSTANCE": resource.name, "GATEWAY_ADDRESS": resource.on}
        return Run(resource.run, (action,), environment, resource.timeout, queue=f"resource {resource.name}")

    def _start_program(self, number: int, run: Run) -> None:
        self._programs[number] = " ".join((run.queue, *run.arguments))
        try:
            message = Request.of(number, run).encode()
        except ValueError:
            log.error("%s cannot be run: a value is not a single line of at most 1024 characters", run.program)
            self._program_ended(number, FAILED)
            return
        with contextlib.suppress(OSError):
            self._guardian.send(message)

    def _hear_guardian(self) -> None:
        try:
            message = self._guardian.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            log.error("the guardian has exited; releasing every address and restarting")
            for lane in self._lanes.values():
                self._take_down(lane)
            self._selector.unregister(self._guardian)
            self._done = True
            return
        self._program_ended(*json.loads(message))

    def _program_ended(self, number: int, ended: int) -> None:
        program = self._programs.pop(number, "")
        if ended:
            self.counters.failures[program] += 1
            log.warning("%s ended with status %d", program, ended)
        self._jobs.ended(number, ended, clock())

    # ---------------------------------------------------------------------------------------------------------- health

    def _look(self, now: float) -> None:
        """Update the node's fitness when it has changed."""
        # After an upgrade, the old workers end, and those of the next gateway already serve.
        if now - self._looked >= LOOK and self._handover_until is None:
            self._looked = now
            self.health = self._judge(now)
            self.damper.observe(self.health.value, now)
        for name, interface in self._interfaces.items():
            self._fitness[name].look(now, carrier=interface.works)
        for ip, lane in self._lanes.items():
            owner = self.node.holdings[ip].state is State.OWNER
            found = self._fitness[lane.interface.name].judge(self.health, self.damper.value, owner=owner)
            self.node.set_fitness(ip, *found, now)

    def _judge(self, now: float) -> health.Health:
        site = self._snapshot.site
        workers = (self._tree.read() or {"workers": range(site.workers)})["workers"]
        ages = [*silences(self._board, workers).values()]
        up = [
            (name, any(self._board.state(slot) != DOWN for key, slot in self._snapshot.slots.items() if key[0] == name))
            for name, backend in site.backends.items()
            if backend.check is not None
        ]
        reached = self._router is None or now - self._router_seen < ROUTER_TIMEOUT
        return health.judge(ages, up, router=reached)

    def _watch_router(self) -> Job:
        """Probe the router: often if it alone can tell which of two nodes is isolated."""
        lease = self._cluster.heartbeat.dead_after
        often = self.node.settings.may_split
        while self._router is not None:
            interface, target, own = self._router
            interface.send(frames.question(target, interface.mac, own))
            self.node.alone_allowed = clock() - self._router_seen < 1.5 * lease
            yield lease / 8 if often else ROUTER_TIMEOUT / 6

    # ---------------------------------------------------------------------------------------------------------- status

    def _post(self, now: float) -> None:
        """Send the figures to control, which has no access to the Unix socket."""
        if now - self._posted >= POST:
            self._posted = now
            self._bulletin.post({**asdict(status.report(self, now)), "history": []})

    def _command(self, name: str) -> dict[str, Any]:
        """Execute a command of `gateway status` and others."""
        admin_states = {"join": AdminState.JOIN, "standby": AdminState.STANDBY, "drain": AdminState.DRAIN}
        if name in admin_states:
            self.node.set_admin_state(admin_states[name], clock())
            self._act()
        elif name != "status":
            return {"error": f"unknown command {name}"}
        return asdict(status.report(self, clock()))


_BY_COMMAND: Final[dict[str | None, AdminState]] = {"drain": AdminState.DRAIN, "maintenance": AdminState.STANDBY}
"""What `gateway drain --node` and `gateway maintenance --node` mean for shared addresses."""


def _settings(me: str, cluster: Cluster) -> Settings:
    nodes = tuple(cluster.nodes)
    lease = cluster.heartbeat.dead_after
    shared = tuple(Shared(item.ip, _order(nodes, item.prefer), failback=item.failback) for item in cluster.addresses)
    agreed = json.dumps([sorted(nodes), cluster.witness is not None, lease, sorted(map(_described, cluster.addresses))])
    return Settings(
        me,
        nodes,
        shared,
        cluster.witness is not None,
        cluster.heartbeat.interval,
        lease,
        hashlib.sha256(agreed.encode()).digest()[:8],
    )


def _described(shared: SharedAddress) -> str:
    """The properties of an address that all nodes must agree on."""
    return shared.ip if shared.virtual_mac is None else f"{shared.ip} virtual_mac {shared.virtual_mac}"


def _order(nodes: tuple[str, ...], first: str | None) -> tuple[str, ...]:
    return (first, *(node for node in nodes if node != first)) if first is not None else nodes
