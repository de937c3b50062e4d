"""One node of the cluster, without input and output: beats and time are passed in, beats and actions returned.

Times are seconds of one clock that continues while the process is stopped (CLOCK_BOOTTIME).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

from gateway.heartbeat import election
from gateway.heartbeat.beat import AdminState, Beat, Claim, Stake, Vote
from gateway.heartbeat.election import Runner
from gateway.heartbeat.lease import DRIFT, NEVER, Promises, held_by_all, held_until
from gateway.heartbeat.membership import Heard, Membership, Peer
from gateway.heartbeat.ownership import Effect, Event, State, step

WITNESS: Final = "witness"
"""The name of the witness as a voter that is not a gateway."""
HURRY: Final = 4
"""Beats per interval while an answer is overdue."""
LATE: Final = 1.25
"""Intervals after which an answer is overdue."""
BURST: Final = 24
"""Largest number of beats per interval, however many are requested."""
AGAIN: Final = 1 / 64
"""Intervals until a candidate repeats its request for votes; the pause then doubles, up to one of HURRY."""
RETRY: Final = 5.0
"""Seconds until another attempt to take an address that could not be taken."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A shared address. `order`: nodes, the preferred one first."""

    address: str
    order: tuple[str, ...]
    failback: bool = False


@dataclass(frozen=True)
class Settings:
    """Settings that are constant for the life of a node; durations in seconds."""

    node: str
    nodes: tuple[str, ...]
    addresses: tuple[Shared, ...]
    witness: bool = False
    interval: float = 0.1
    lease: float = 0.4
    """How long a promise is binding, and the silence after which a node is dead."""
    digest: bytes = b""

    @cached_property
    def voters(self) -> tuple[str, ...]:
        """All nodes with a vote."""
        return (*self.nodes, WITNESS) if self.witness else self.nodes

    @property
    def foresight(self) -> float:
        """Seconds for which an address is probed before it can be taken from a silent owner."""
        return min(0.02, self.interval / 2)

    @property
    def may_split(self) -> bool:
        """Two nodes without a witness: the only mode in which both could own an address."""
        return len(self.voters) == 2

    @property
    def quorum(self) -> int:
        """Number of votes that make an owner."""
        return len(self.voters) // 2 + 1


class Send(NamedTuple):
    """Send the beat to all nodes, over all links."""

    beat: Beat


class Probe(NamedTuple):
    """The address may have to be taken at `when`: until then, probe whether any host but its owner answers for it."""

    address: str
    when: float


class Take(NamedTuple):
    """Add the address and announce it, then call `taken` or `refuse`. `victim`: the previous, dead owner, if any."""

    address: str
    victim: str | None


class Hold(NamedTuple):
    """The address may be used until then, and no longer."""

    address: str
    until: float


class Drop(NamedTuple):
    """Remove the address at once."""

    address: str
    reason: str


class Release(NamedTuple):
    """Stop the resources of the address, remove it, then call `released`."""

    address: str
    reason: str


class Announce(NamedTuple):
    """Announce the address again: neighbours may have received another owner's announcement."""

    address: str
    reason: str


class Note(NamedTuple):
    """A message for the log and the history, about a node or an address."""

    about: str
    text: str


Action = Send | Probe | Take | Hold | Drop | Release | Announce | Note


@dataclass(slots=True)
class Holding:
    """One address, as seen by this node."""

    shared: Shared
    state: State = State.INIT
    fitness: int = 0
    reason: str = "starting"
    """Why it is in this state."""
    asking: bool = False
    asked_from: int = 0
    """The first own beat of this attempt: votes for earlier ones no longer count."""
    votes: dict[str, float] = field(default_factory=dict)
    """Voter → when the request for the vote was sent."""
    voice_from: int = 0
    """The own beat since which the witness's vote has been held without interruption."""
    until: float = NEVER
    leaving: bool = False
    unowned: float | None = None
    """Since when it has had no owner."""
    pause: float = 0.0
    """Seconds before the next request for it, because an unseen node seems to request it as well."""
    better: float | None = None
    """Since when another node should own it."""
    last_owner: str | None = None
    foreseen: float = NEVER
    """The end of the owner's silence for which it was last probed."""
    fault_until: float = NEVER

    @property
    def stake(self) -> Stake:
        """What to tell the other nodes."""
        if self.state is State.OWNER:
            return Stake.OWNING
        return Stake.ASKING if self.asking else Stake.IDLE


class Node:
    """The state of this node. After each call, `actions` lists what to do, in order: remove and execute the entries."""

    def __init__(self, settings: Settings, incarnation: int, now: float) -> None:
        self.settings = settings
        self.actions: list[Action] = []
        self.admin_state = AdminState.JOIN
        self.alone_allowed = True
        """Without a witness and with a dead peer: whether this side may own (its router is reachable)."""
        self.holdings = {shared.address: Holding(shared) for shared in settings.addresses}
        others = [name for name in settings.voters if name != settings.node]
        self.membership = Membership(settings.node, incarnation, settings.lease, others)
        self.incarnation = incarnation
        self._settled = now + settings.lease
        self.promises = Promises(self._settled)
        self._stopping = False
        self._urgent = False
        self._ticked = now
        self._last_sent = NEVER
        self._window = now
        self._in_window = 0

    # ---------------------------------------------------------------------------------------------------------- input

    def receive(self, beat: Beat, link: str, now: float) -> None:
        """Process a beat received over `link`. Raises membership.Refused."""
        before = self.membership.peers.get(beat.node)
        was_alive = before is not None and before.alive
        heard = self.membership.hear(beat, link, now)
        if heard is Heard.COPY:
            return
        self._urgent |= beat.answer or heard is Heard.UNCONFIRMED
        if heard is Heard.NEW:
            if not was_alive:
                self._welcome(beat.node)
            if any(holding.asking for holding in self.holdings.values()):
                self._decide(now)  # first, because it may free this node's vote
            self.promises.answer(beat, now)
            self._count_votes(beat)
        self.tick(now)

    def tick(self, now: float) -> None:
        """Advance time; call at least every `settings.interval / HURRY` seconds, and at each `deadline`."""
        self._ticked = now
        for peer in self.membership.fall_silent(now):
            self._note(peer.name, "dead: no beats on any link")
        self._decide(now)
        while self._due() <= now:
            self._send(now)
            if any(holding.asking for holding in self.holdings.values()):
                self._decide(now)  # this node's own vote may have been the missing one

    def deadline(self) -> float:
        """When the next event is due: the end of a lease, of a node's silence, or a beat to send."""
        ends = [holding.until for holding in self.holdings.values() if holding.state is State.OWNER]
        dead = [peer.heard + self.settings.lease for peer in self.membership.peers.values() if peer.alive]
        foreseen = [end - self.settings.foresight for end in dead]
        # Times before the last tick have been handled; those between it and now are late, and must not be skipped.
        return min((self._due(), *(moment for moment in (*ends, *dead, *foreseen) if moment > self._ticked)))

    def set_fitness(self, address: str, fitness: int, reason: str, now: float) -> None:
        """Set this node's fitness for `address`: 0 (cannot serve) to 255."""
        holding = self.holdings[address]
        if fitness == holding.fitness and holding.state is not State.INIT:
            return
        holding.fitness = fitness
        if not fitness:
            self._step(holding, Event.UNFIT, reason)
        self._urgent = True
        self.tick(now)

    def set_admin_state(self, admin_state: AdminState, now: float) -> None:
        """Set the operator's state for this node."""
        if admin_state is not self.admin_state:
            self.admin_state = admin_state
            self._urgent = True
            self._note(self.settings.node, f"admin state: {admin_state.name.lower()}")
        self.tick(now)

    def stop(self, now: float) -> None:
        """Give every address away, whether another node can take it or not; `done` tells when that is complete."""
        self._stopping = True
        self.admin_state = AdminState.STANDBY
        self._urgent = True
        self.tick(now)

    @property
    def done(self) -> bool:
        """Whether this node owns nothing."""
        return all(holding.state is not State.OWNER for holding in self.holdings.values())

    def released(self, address: str, now: float) -> None:
        """Release has been carried out: the address has been removed here."""
        holding = self.holdings[address]
        if holding.state is State.OWNER:
            self._step(holding, Event.RELEASED, holding.reason)
            self._urgent = True
        self.tick(now)

    def refuse(self, address: str, reason: str, now: float) -> None:
        """The address could not be taken, or not be kept."""
        holding = self.holdings[address]
        holding.fault_until = now + RETRY
        self._step(holding, Event.UNFIT, reason)
        self._urgent = True
        self.tick(now)

    # ------------------------------------------------------------------------------------------------------- deciding

    def runners(self, holding: Holding) -> list[Runner]:
        """The other nodes that are alive, as candidates."""
        return [
            self._runner(holding, peer)
            for peer in self.membership.peers.values()
            if peer.alive and peer.name != WITNESS
        ]

    def me(self, holding: Holding) -> Runner:
        """This node, as a candidate."""
        fitness = 0 if holding.state is State.FAULT else holding.fitness
        place = _place(holding.shared, self.settings.node)
        return Runner(self.settings.node, place, fitness, self.admin_state, holding.stake)

    @staticmethod
    def _runner(holding: Holding, peer: Peer) -> Runner:
        beat = peer.beat
        place = _place(holding.shared, peer.name)
        if beat is not None:
            for claim in beat.claims:
                if claim.address == holding.shared.address:
                    return Runner(peer.name, place, claim.fitness, beat.admin_state, claim.stake, peer.since)
        return Runner(peer.name, place, 0)

    def _decide(self, now: float) -> None:
        for holding in self.holdings.values():
            match holding.state:
                case State.INIT if now >= self._settled and holding.fitness:
                    self._step(holding, Event.SETTLED, "ready")
                case State.FAULT if now >= max(self._settled, holding.fault_until) and holding.fitness:
                    self._step(holding, Event.FIT, "ready again")
            others = self.runners(holding)
            if (current := election.owner(others)) is not None:
                holding.last_owner = current.node
                self._foresee(holding, current, others, now)
            if holding.state is State.BACKUP:
                self._seek(holding, others, now)
            if holding.state is State.OWNER:
                self._keep(holding, others, now)

    def _foresee(self, holding: Holding, current: Runner, others: Sequence[Runner], now: float) -> None:
        """Probe the address before its owner is dead, if this node is the next candidate."""
        dead = self.membership.peers[current.node].heard + self.settings.lease
        if holding.state is not State.BACKUP or dead == holding.foreseen or now < dead - self.settings.foresight:
            return
        rest = [other for other in others if other is not current]
        if election.wait(self.me(holding), rest, self.settings.lease) == 0 and self._may_own(rest):
            holding.foreseen = dead
            self.actions.append(Probe(holding.shared.address, dead))

    def _seek(self, holding: Holding, others: Sequence[Runner], now: float) -> None:
        """As backup, request the address or leave it to others; with enough votes, become the owner."""
        me = self.me(holding)
        wait = election.wait(me, others, self.settings.lease)
        if wait is None or not self._may_own(others):
            holding.unowned = None
            if holding.asking:
                self._let_go(holding)
            return
        if holding.unowned is None:
            holding.unowned, holding.pause = now, 0.0
        waited = now - holding.unowned
        wait = max(wait, holding.pause)
        if waited >= wait + election.WAIT * self.settings.lease and (wait or self._is_contested(holding, now)):
            # Two nodes that both persist withhold their votes from each other: the worse one yields, and tries again
            # later. If they do not hear each other, both yield, for different times.
            holding.unowned, waited = now, 0.0
            if self._is_contested(holding, now):
                wait = holding.pause = (me.place + 1) * self.settings.lease
        if waited < wait:
            if holding.asking:
                self._let_go(holding)
            return
        if not holding.asking:
            holding.asking = True
            holding.asked_from = self.membership.sequence + 1
            holding.votes.clear()
            self._urgent = True
        holding.until = self._until(holding, others)
        if now < holding.until:
            dead = holding.last_owner if holding.last_owner not in {other.node for other in others} else None
            self._step(holding, Event.WON, f"{dead} is dead" if dead else "it had no owner", dead)

    def _keep(self, holding: Holding, others: Sequence[Runner], now: float) -> None:
        """As owner, keep the address while the lease holds and no other node should own it instead."""
        until = self._until(holding, others)
        if now >= until:
            alone = self.settings.may_split and not self._may_own(others)
            self._step(
                holding,
                Event.LOST,
                ("isolated: no peer and no router reachable") if alone else "the lease was not renewed",
            )
            return
        if until != holding.until:
            holding.until = until
            self.actions.append(Hold(holding.shared.address, until))
        me = self.me(holding)
        # With a quorum, the promises already decide between the two, not always for the preferred one.
        rival = election.owner(others) if self.settings.may_split else None
        if rival is not None and rival.key < me.key:
            self._step(holding, Event.LOST, f"{rival.node} owns it as well and has precedence")
        elif not holding.leaving and (reason := self._why_leave(holding, me, others, now)):
            holding.leaving = True
            holding.reason = reason
            self.actions.append(Release(holding.shared.address, reason))

    def _why_leave(self, holding: Holding, me: Runner, others: Sequence[Runner], now: float) -> str | None:
        if self._stopping:
            return "the gateway stops"
        if self.admin_state is not AdminState.JOIN:
            another = any(other.eligible for other in others)
            return self.admin_state.name.lower() if another and self._is_next(holding) else None
        best = election.make_way(me, others, failback=holding.shared.failback)
        if best is None:
            holding.better = None
            return None
        if holding.better is None:
            holding.better = now
        if now - max(holding.better, best.since) < election.STEADY * self.settings.lease:
            return None
        return f"{best.node} is {'fitter' if best.fitness > me.fitness else 'preferred'}"

    def _is_contested(self, holding: Holding, now: float) -> bool:
        """Whether the witness is alive but does not vote for this node: an unseen node may request the same address."""
        if not self.settings.witness or not self.membership.peers[WITNESS].alive:
            return False
        return now >= holding.votes.get(WITNESS, NEVER) + self.settings.lease

    def _is_next(self, holding: Holding) -> bool:
        """Whether it is this address's turn: a drain waits until the previous address has its new owner."""
        if self.admin_state is AdminState.STANDBY:
            return True
        for before in self.holdings.values():
            if before is holding:
                return True
            others = self.runners(before)
            if before.leaving or (election.owner(others) is None and any(other.eligible for other in others)):
                return False
        return True

    def _may_own(self, others: Sequence[Runner]) -> bool:
        return not self.settings.may_split or bool(others) or self.alone_allowed

    def _until(self, holding: Holding, others: Sequence[Runner]) -> float:
        """Until when the votes let this node own the address."""
        lease = self.settings.lease
        if not self.settings.may_split:
            return held_until(holding.votes, self.settings.quorum, lease)
        if not self._may_own(others):
            return NEVER
        # An owner continues with its own vote when the other node returns: preference then decides between them.
        voters = () if holding.state is State.OWNER else (other.node for other in others)
        return held_by_all(holding.votes, (self.settings.node, *voters), lease)

    def _let_go(self, holding: Holding) -> None:
        """Drop all votes, this node's own included: the next beat lets others be voted for."""
        holding.asking = holding.leaving = False
        holding.until = NEVER
        holding.better = None
        holding.votes.clear()
        self.promises.release(self._own_vote(holding, self.membership.sequence + 1))
        self._urgent = True

    def _step(self, holding: Holding, event: Event, reason: str, victim: str | None = None) -> None:
        before = holding.state
        holding.state, effect = step(before, event)
        if holding.state is before:
            return
        holding.reason = reason
        address = holding.shared.address
        match effect:
            case Effect.TAKE:
                self.actions += (Hold(address, holding.until), Take(address, victim))
            case Effect.DROP:
                self.actions.append(Drop(address, reason))
        if holding.state is State.OWNER:
            holding.asking = False
            holding.better = None
            self._urgent = True
        else:
            holding.unowned = None
            self._let_go(holding)
        self._note(address, f"{before.value} → {holding.state.value}: {reason}")

    # ---------------------------------------------------------------------------------------------------------- beats

    def _welcome(self, name: str) -> None:
        self._note(name, "alive")
        for holding in self.holdings.values():
            if holding.state is State.OWNER:
                self.actions.append(Announce(holding.shared.address, f"{name} is back"))

    def _count_votes(self, beat: Beat) -> None:
        for vote in beat.votes:
            holding = self.holdings.get(vote.address)
            if vote.candidate != self.settings.node or vote.incarnation != self.incarnation:
                if holding is not None:
                    # It has promised the address to another, so its promise to us is over, even if our clock has
                    # stopped meanwhile.
                    holding.votes.pop(beat.node, None)
                continue
            sent = self.membership.sent_at(vote.sequence)
            if holding is None or sent is None or holding.stake is Stake.IDLE or vote.sequence < holding.asked_from:
                continue
            before = holding.votes.get(beat.node, NEVER)
            if beat.node == WITNESS and sent >= before + self.settings.lease * (1.0 - DRIFT):
                holding.voice_from = vote.sequence
            holding.votes[beat.node] = max(sent, before)

    def _own_vote(self, holding: Holding, sequence: int) -> Vote:
        return Vote(holding.shared.address, self.settings.node, self.incarnation, sequence)

    def _send(self, now: float) -> None:
        sequence = self.membership.stamp(now)
        asking = False
        for holding in self.holdings.values():
            if holding.stake is Stake.IDLE:
                continue
            asking = True
            if self.promises.ask(self._own_vote(holding, sequence), self.settings.lease, now):
                holding.votes[self.settings.node] = now
        settings = self.settings
        beat = Beat(
            node=settings.node,
            incarnation=self.incarnation,
            sequence=sequence,
            lease=settings.lease,
            interval=settings.interval,
            admin_state=self.admin_state,
            answer=asking or self._is_late(now),
            digest=settings.digest,
            echoes=self.membership.echoes(now),
            claims=tuple(self._claims()),
            votes=tuple(self._votes(now)),
        )
        self.actions.append(Send(beat))
        self._urgent = False
        self._last_sent = now
        if now >= self._window + settings.interval:
            self._window, self._in_window = now, 0
        self._in_window += 1

    def _claims(self) -> Iterator[Claim]:
        for holding in self.holdings.values():
            yield Claim(holding.shared.address, holding.stake, self.me(holding).fitness)

    def _votes(self, now: float) -> Iterator[Vote]:
        for vote in self.promises.binding(now):
            holding = self.holdings.get(vote.address) if vote.candidate == self.settings.node else None
            yield vote._replace(sequence=holding.voice_from) if holding is not None and holding.voice_from else vote

    def _due(self) -> float:
        """When the next beat must be sent."""
        due = self._ticked if self._urgent else self._last_sent + self._period(self._ticked)
        return due if self._in_window < BURST else max(due, self._window + self.settings.interval)

    def _period(self, now: float) -> float:
        interval = self.settings.interval
        if not self._is_late(now):
            return interval
        # A voter's earlier promise may end a little later there than here: it is asked again soon, then rarely.
        asked = (self.membership.sent_at(holding.asked_from) for holding in self.holdings.values() if holding.asking)
        since = self._last_sent - max((at for at in asked if at is not None), default=NEVER)
        return min(interval / HURRY, max(interval * AGAIN, since))

    def _is_late(self, now: float) -> bool:
        """Whether an expected beat is overdue."""
        due = now - LATE * self.settings.interval
        full = self.settings.lease * (1.0 - DRIFT)
        for holding in self.holdings.values():
            if holding.stake is not Stake.IDLE and holding.until - full < due:
                return True
        return any(peer.alive and peer.heard < due for peer in self.membership.peers.values())

    def _note(self, about: str, text: str) -> None:
        self.actions.append(Note(about, text))


def _place(shared: Shared, node: str) -> int:
    return shared.order.index(node) if node in shared.order else len(shared.order)
