"""A cluster in simulated time: hosts with clocks of their own, a network that loses, delays, doubles and reorders.

A host keeps what a kernel keeps (which address is up, and until when it may be answered for) when its process is
stopped or killed. After every event the simulator looks whether two hosts would answer for one address.
"""

import heapq
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from gateway.heartbeat import handover
from gateway.heartbeat.beat import AdminState, Beat, Codec
from gateway.heartbeat.disk_witness import DiskWitness
from gateway.heartbeat.membership import Refused
from gateway.heartbeat.node import (
    HURRY,
    WITNESS,
    Action,
    Drop,
    Hold,
    Node,
    Probe,
    Release,
    Send,
    Settings,
    Shared,
    Take,
)
from gateway.heartbeat.ownership import State
from gateway.heartbeat.witness import Witness

VIP = "192.0.2.10"
OTHER = "192.0.2.11"
LINKS = ("a", "b")
CODEC = Codec(b"0123456789abcdef")


class TwoOwners(AssertionError):
    """What must never happen."""


@dataclass(slots=True)
class Kernel:
    """What answers for one address, whatever becomes of the process."""

    up: bool = False
    until: float = float("-inf")


@dataclass
class Weather:
    """How the network is."""

    loss: float = 0.0
    delay: tuple[float, float] = (0.0002, 0.001)
    copies: float = 0.0
    cut: set[tuple[str, str, str]] = field(default_factory=set)
    """(link, from, to) that carry nothing."""
    disk: tuple[float, float] = (0.0005, 0.003)
    """Seconds that the shared disk takes for a write or a read."""
    no_disk: set[str] = field(default_factory=set)
    """Who gets errors from it."""


class Host:
    """A machine with at most one heartbeat process."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.rate = cluster.random.uniform(0.995, 1.005)
        self.offset = cluster.random.uniform(0, 1e6)
        self.node: Node | None = None
        self.witness: Witness | None = None
        self.frozen = False
        self.suspended = False
        """The whole machine sleeps: its kernel answers nothing, and its clock goes on."""
        self.paused: float | None = None
        """Since when a hypervisor holds it, with its clock; what comes for it waits."""
        self.resumed = float("-inf")
        self.disk: DiskWitness | None = None
        self.unwritten: Beat | None = None
        self.life = 0
        self.backlog: list[Callable[[], None]] = []
        self.wakes = float("inf")
        """When the node is told the time next."""
        self.probed: dict[str, float] = {}
        """Address → when it was probed last, by the clock here."""
        self.kernel = {address.address: Kernel() for address in cluster.addresses}
        self.fitness = 200

    def clock(self) -> float:
        now = self.cluster.now if self.paused is None else self.paused
        return now * self.rate + self.offset

    def resume(self) -> None:
        """Go on where the clock was."""
        if self.paused is not None:
            self.offset -= (self.cluster.now - self.paused) * self.rate
            self.paused, self.resumed = None, self.cluster.now

    def start(self) -> None:
        self.life += 1
        self.resume()
        self.frozen = self.suspended = False
        self.backlog.clear()
        incarnation = self.cluster.random.getrandbits(63)
        if self.name == WITNESS:
            self.witness = Witness(self.cluster.lease, incarnation, self.clock())
            return
        for kernel in self.kernel.values():  # what an earlier life left
            kernel.up, kernel.until = False, float("-inf")
        self.node = Node(self.cluster.settings(self.name), incarnation, self.clock())
        for address in self.kernel:
            self.node.set_fitness(address, self.fitness, "serving", self.clock())
        self.work()
        self.begin()

    def begin(self) -> None:
        """The loops of a process that has just been made."""
        self.wakes = float("inf")
        self.arm()
        if self.cluster.with_disk:
            others = [i for i, name in enumerate(self.cluster.names) if name != self.name]
            self.disk = DiskWitness(self.cluster.random.getrandbits(63), others)
            self.later(0.0, self.turn_disk)

    @property
    def running(self) -> Node:
        """The node, of a host that has one."""
        assert self.node is not None
        return self.node

    def upgrade(self, gap: float) -> None:
        """Another process goes on with what this one leaves, if nothing is under way, `gap` seconds later."""
        node = self.node
        if node is None or self.frozen or any(holding.leaving for holding in node.holdings.values()):
            return
        if any(kernel.up != (node.holdings[a].state is State.OWNER) for a, kernel in self.kernel.items()):
            return
        left = json.loads(json.dumps(handover.hand_over(node, CODEC)))
        self.kill()
        life = self.life

        def go_on() -> None:
            if self.life != life:
                return
            self.node = Node(self.cluster.settings(self.name), self.cluster.random.getrandbits(63), self.clock())
            handover.adopt(self.node, left, CODEC)
            self.cluster.upgrades += 1
            for address in self.kernel:
                self.node.set_fitness(address, self.fitness, "serving", self.clock())
            self.work()
            self.begin()

        self.cluster.at(self.cluster.now + gap, go_on)

    def kill(self) -> None:
        self.life += 1
        self.resume()
        self.node = self.witness = None
        self.backlog.clear()

    def thaw(self) -> None:
        self.resume()
        self.frozen = self.suspended = False
        backlog, self.backlog = self.backlog, []
        if self.cluster.random.random() < 0.3:
            self.cluster.random.shuffle(backlog)  # timer or socket first: both happen
        while backlog:
            if self.frozen:
                self.backlog = backlog + self.backlog
                return
            backlog.pop(0)()

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do it in this life of the process, and while it runs."""
        life = self.life

        def due() -> None:
            if life != self.life:
                return
            if self.frozen:
                self.backlog.append(due)
            else:
                what()

        self.cluster.at(self.cluster.now + seconds, due)

    def tick(self, when: float) -> None:
        """Let the node know the time, unless an earlier moment has been set since."""
        if when == self.wakes:
            self.wakes = float("inf")
            self.running.tick(self.clock())
            self.work()
            self.arm()

    def arm(self) -> None:
        """Wake up at the node's next deadline."""
        left = max(0.0, (self.running.deadline() - self.clock()) / self.rate)
        when = self.cluster.now + min(self.cluster.interval / HURRY, left)
        if when < self.wakes:
            self.wakes = when
            late = self.cluster.random.uniform(0.0002, 0.0012)  # a timer's tick, and other work
            self.later(when - self.cluster.now + late, partial(self.tick, when))

    def turn_disk(self) -> None:
        """Write what there is to be written, then read all blocks, then hear what the disk says; and so on."""
        cluster = self.cluster
        own, self.unwritten = self.unwritten, None
        begin = self.clock()
        takes = cluster.random.uniform(*cluster.weather.disk)
        if own is None or self.name in cluster.weather.no_disk:
            self.later(cluster.interval / 2, lambda: self.read_disk(None, begin))
        else:
            cluster.write(self, own, takes)
            self.later(takes, lambda: self.read_disk(own, begin))

    def read_disk(self, own: Beat | None, begin: float) -> None:
        cluster = self.cluster
        written = read = self.clock()
        takes = cluster.random.uniform(*cluster.weather.disk)
        found: dict[int, tuple[bytes, Beat | None] | None] = {}
        failed = self.name in cluster.weather.no_disk
        for place in range(len(cluster.names)):
            take = partial(lambda place: found.update({place: cluster.blocks[place]}), place)
            cluster.at(cluster.now + cluster.random.uniform(0, takes), take)

        def done() -> None:
            assert self.disk is not None
            for place, name in enumerate(cluster.names):
                if name != self.name:
                    content, beat = (None, None) if failed else found[place] or (b"", None)
                    self.disk.show(place, content, beat, read, self.clock())
            if own is not None and not failed:
                self.hear(self.disk.answer(own, begin, written), "disk")
            self.later(0.0005, self.turn_disk)

        self.later(takes, done)

    def hear(self, beat: Beat, link: str) -> None:
        try:
            if self.witness is not None:
                answer = self.witness.receive(beat, link, self.clock())
                if answer is not None:
                    self.cluster.carry(self.name, beat.node, answer)
            elif self.node is not None:
                self.node.receive(beat, link, self.clock())
        except Refused:
            self.cluster.refused += 1
        self.work()
        if self.node is not None:
            self.arm()

    def work(self) -> None:
        """Do the actions; a process can be stopped between any two."""
        node = self.node
        if node is None:
            return
        actions, node.actions = node.actions, []
        for i, action in enumerate(actions):
            if self.cluster.stumble and self.cluster.random.random() < self.cluster.stumble:
                self.cluster.freeze(self, self.cluster.random.uniform(0.05, 1.2))
                for left in actions[i:]:
                    self.later(0.0, partial(self.do, left))
                return
            self.do(action)

    def do(self, action: Action) -> None:
        node = self.node
        assert node is not None
        match action:
            case Send(beat):
                self.unwritten = beat
                for name in self.cluster.hosts:
                    if name != self.name:
                        self.cluster.carry(self.name, name, beat)
            case Probe(address, _):
                self.probed[address] = self.clock()
            case Hold(address, until):
                self.kernel[address].until = until
            case Take(address, _):

                def bring_up() -> None:
                    if node.holdings[address].state is State.OWNER:
                        self.kernel[address].up = True

                self.later(self.cluster.random.uniform(0.0, 0.03), bring_up)
            case Drop(address, _):
                self.kernel[address].up, self.kernel[address].until = False, float("-inf")
            case Release(address, _):

                def let_go() -> None:
                    self.kernel[address].up, self.kernel[address].until = False, float("-inf")
                    node.released(address, self.clock())
                    self.work()

                self.later(self.cluster.random.uniform(0.0, 0.05), let_go)

    def owns(self, address: str) -> bool:
        kernel = self.kernel[address]
        return kernel.up and not self.suspended and self.paused is None and self.clock() < kernel.until


class Cluster:
    """Hosts and network; `seed` decides everything that is left to chance."""

    def __init__(
        self,
        seed: int,
        nodes: Iterable[str] = ("gw1", "gw2"),
        *,
        witness: bool = True,
        disk: bool = False,
        addresses: tuple[Shared, ...] | None = None,
        interval: float = 0.1,
        lease: float = 0.4,
    ) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.names = tuple(nodes)
        self.with_witness = witness
        self.with_disk = disk
        """The witness is a lease on a shared disk."""
        self.blocks: list[tuple[bytes, Beat | None] | None] = [None] * len(self.names)
        self.interval, self.lease = interval, lease
        self.addresses = addresses or (Shared(VIP, self.names),)
        self.weather = Weather()
        self.stumble = 0.0
        self.refused = 0
        self.upgrades = 0
        self.both = 0.0
        """Seconds in which an owner that had lost time did not know of its successor."""
        self.codec: Codec | None = None
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.owner: dict[str, list[tuple[float, str | None]]] = {a.address: [(0.0, None)] for a in self.addresses}
        self.hosts = {name: Host(self, name) for name in (*self.names, *([WITNESS] if witness and not disk else []))}
        self._kernels = {
            a.address: [(host, host.kernel[a.address]) for host in self.hosts.values()] for a in self.addresses
        }
        for host in self.hosts.values():
            self.at(self.random.uniform(0, 0.2), host.start)

    def settings(self, name: str) -> Settings:
        return Settings(name, self.names, self.addresses, self.with_witness, self.interval, self.lease)

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, what))

    def write(self, host: Host, beat: Beat, seconds: float) -> None:
        """A block changes at some moment, with torn bytes before; a dead host's write may come late, or stay torn."""
        place, life = self.names.index(host.name), host.life
        moments = sorted(self.random.uniform(0, seconds) for _ in range(2))
        torn = self.random.random() < 0.2

        def tear() -> None:
            if torn:
                self.blocks[place] = self.random.randbytes(8), None

        def finish() -> None:
            if host.life == life or not torn:
                self.blocks[place] = b"%d %d" % (beat.incarnation, beat.sequence), beat

        self.at(self.now + moments[0], tear)
        self.at(self.now + moments[1], finish)

    def freeze(self, host: Host, seconds: float, *, suspend: bool = False) -> None:
        host.frozen, host.suspended = True, suspend
        life = host.life
        self.at(self.now + seconds, lambda: host.thaw() if host.life == life and host.frozen else None)

    def pause(self, host: Host, seconds: float) -> None:
        """Its hypervisor stops it for so long, and its clock does not know."""
        host.resume()
        host.paused = self.now
        self.freeze(host, seconds)

    def carry(self, source: str, target: str, beat: Beat) -> None:
        weather, chance = self.weather, self.random
        if self.codec is not None:
            beat = self.codec.decode(self.codec.encode(beat))
        for link in LINKS:
            if (link, source, target) in weather.cut or chance.random() < weather.loss:
                continue
            for _ in range(2 if chance.random() < weather.copies else 1):
                host = self.hosts[target]
                life = host.life
                self.at(self.now + chance.uniform(*weather.delay), partial(self._arrive, host, life, beat, link))

    def _arrive(self, host: Host, life: int, beat: Beat, link: str) -> None:
        if host.life != life or (host.node is None and host.witness is None):
            return
        if host.suspended:
            return
        if host.frozen:
            if len(host.backlog) < 500:  # a socket's buffer
                host.backlog.append(lambda: host.hear(beat, link))
            return
        host.hear(beat, link)

    def _lags(self, name: str) -> bool:
        """Whether its clock, which stood still, may still let it own something: within a lease it cannot know."""
        write = self.weather.disk[1] if self.with_disk else 0.0
        return self.now - self.hosts[name].resumed < self.lease / self.hosts[name].rate + write

    def owners(self, address: str) -> list[str]:
        return [host.name for host, kernel in self._kernels[address] if kernel.up and host.owns(address)]

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; stop as soon as `until` holds, and say whether it did."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            before = self.now
            self.now, _, what = heapq.heappop(self._queue)
            what()
            for address, history in self.owner.items():
                owners = self.owners(address)
                if len(owners) > 1 and not any(map(self._lags, owners)):
                    raise TwoOwners(f"{address} has {owners} at {self.now:.4f} s")
                if len(owners) > 1:
                    self.both += self.now - before
                    owners = [name for name in owners if not self._lags(name)]
                name = owners[0] if owners else None
                if name != history[-1][1]:
                    history.append((self.now, name))
            if until():
                return True
        self.now = end
        return until()

    # ----------------------------------------------------------------------------------------------------- disturbance

    def separate(self, *sides: Iterable[str], links: Iterable[str] = LINKS) -> None:
        side = {name: i for i, names in enumerate(sides) for name in names}
        for link in links:
            for source in self.hosts:
                for target in self.hosts:
                    if side.get(source) != side.get(target):
                        self.weather.cut.add((link, source, target))

    def heal(self) -> None:
        self.weather = Weather()

    def revive(self) -> None:
        for host in self.hosts.values():
            if host.node is None and host.witness is None:
                host.start()
            elif host.frozen:
                host.thaw()

    def disturb(self) -> None:
        """One random fault, or the end of some."""
        if self.random.random() < 0.5:
            self._disturb_host(self.random.choice(list(self.hosts.values())))
        else:
            self._disturb_network(list(self.hosts))

    def _disturb_host(self, host: Host) -> None:
        chance = self.random
        match chance.randrange(8):
            case 7:
                self.pause(host, chance.uniform(0.01, 3.0))
            case 6:
                host.upgrade(chance.choice((0.005, 0.02, 0.3)))
            case 0 | 1:
                host.kill()
                if chance.random() < 0.8:
                    life = host.life
                    self.at(self.now + chance.uniform(0, 1), lambda: host.start() if host.life == life else None)
            case 2 | 3:
                self.freeze(host, chance.uniform(0.01, 1.5), suspend=chance.random() < 0.2)
            case 4:
                self.revive()
            case 5 if host.node is not None and not host.frozen:
                if chance.random() < 0.5:
                    host.node.set_admin_state(chance.choice(list(AdminState)), host.clock())
                else:
                    host.fitness = chance.choice((0, 100, 200))
                    host.node.set_fitness(chance.choice(list(host.kernel)), host.fitness, "as it is", host.clock())
                host.work()

    def _disturb_network(self, names: list[str]) -> None:
        chance = self.random
        match chance.randrange(8 if self.with_disk else 6):
            case 0:
                chance.shuffle(names)
                split = chance.randrange(1, len(names))
                self.separate(names[:split], names[split:], links=chance.choice((LINKS, ("a",))))
            case 1:
                ways = [(link, source, target) for link in LINKS for source in names for target in names]
                self.weather.cut |= {way for way in ways if chance.random() < 0.25}
            case 2:
                self.weather.loss = chance.choice((0.0, 0.2, 0.5, 0.9))
            case 3:
                self.weather.delay = chance.choice(((0.0, 0.001), (0.0, 0.3), (0.1, 0.9)))
            case 4:
                self.weather.copies = chance.choice((0.0, 0.5))
            case 5:
                self.heal()
            case 6:
                self.weather.disk = chance.choice(((0.0, 0.01), (0.0, 0.2), (0.05, 0.15), (0.2, 2.0)))
            case 7:
                self.weather.no_disk = {name for name in self.names if chance.random() < 0.5}
