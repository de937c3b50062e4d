"""Membership: which beats count as heard, and since when a node is silent.

A beat counts if its sender is known to run now: it has echoed a recent beat of this process. So nothing recorded in an
earlier incarnation of either side is accepted, and no clocks are compared. Within one incarnation, sequence numbers
only grow; a beat with a number that is not above the last is a copy. They restart only after a silence in which all
earlier recordings have become too old to be confirmed: so a forged number that is too high, by a process with the key,
does not exclude the real sender for good.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from gateway.heartbeat.beat import Beat, Echo

REMEMBERED: Final = 2048
"""Number of own beats whose sending time is kept."""
FORMER: Final = 8
"""Number of a peer's earlier incarnations that are kept."""
ECHO_AGE: Final = 4.0
"""In leases: for how long an echo of an own beat confirms its sender."""
_SMOOTH: Final = 1 / 16


class Heard(Enum):
    """How a beat was classified."""

    NEW = "new"
    COPY = "copy"
    """Received before over another link: it only shows that this link is alive."""
    UNCONFIRMED = "unconfirmed"
    """From a process that has not yet shown that it runs now."""


class Refused(Exception):
    """An authentic beat that must not count; the message is a short reason for counters."""


@dataclass(slots=True)
class LinkState:
    """One link over which a peer is heard."""

    sequence: int = 0
    heard: float = float("-inf")
    loss: float = 0.0
    """Share of beats lost on this link, smoothed."""
    delay: float = 0.0
    """One-way delay in seconds, smoothed: half of the round-trip time minus the time at the peer."""

    def count(self, sequence: int, now: float) -> None:
        """Count the beat `sequence`, which is above the last."""
        missed = min(sequence - self.sequence - 1, 64) if self.sequence else 0
        for _ in range(missed):
            self.loss += (1.0 - self.loss) * _SMOOTH
        self.loss -= self.loss * _SMOOTH
        self.sequence, self.heard = sequence, now


@dataclass(slots=True)
class Peer:
    """Another node, or the witness."""

    name: str
    incarnation: int = -1
    beat: Beat | None = None
    """The newest beat that counted."""
    heard: float = float("-inf")
    since: float = float("-inf")
    """When it became alive."""
    alive: bool = False
    links: dict[str, LinkState] = field(default_factory=dict)
    waiting: tuple[int, int, float] | None = None
    """Incarnation, sequence and time of the last beat of an unconfirmed process."""
    former: dict[int, float] = field(default_factory=dict)
    """Earlier incarnation → when a later one was heard.

    A confirmation is younger than ECHO_AGE, so a beat confirmed later than that does not come from the earlier one.
    """

    @property
    def contact(self) -> float:
        """When it was last heard, confirmed or not."""
        return max(self.heard, self.waiting[2] if self.waiting is not None else self.heard)

    def begin_anew(self) -> None:
        """Forget its sequence numbers."""
        self.beat = self.waiting = None
        self.alive = False
        for link in self.links.values():
            link.sequence = 0


class Membership:
    """What `me`, in its `incarnation`, knows of the others. `expected`: their names.

    `sequence`: the number of the last own beat. `remembered`: number of own beats whose sending time is kept.
    """

    def __init__(
        self,
        me: str,
        incarnation: int,
        lease: float,
        expected: Collection[str],
        *,
        sequence: int = 0,
        remembered: int = REMEMBERED,
    ) -> None:
        self._me = me
        self._incarnation = incarnation
        self._lease = lease
        self._remembered = remembered
        self._sent: OrderedDict[int, float] = OrderedDict()
        self._sequence = sequence
        self.peers: dict[str, Peer] = {name: Peer(name) for name in expected}

    def stamp(self, now: float) -> int:
        """Return the sequence number for a beat that is sent now."""
        self._sequence += 1
        self._sent[self._sequence] = now
        if len(self._sent) > self._remembered:
            self._sent.popitem(last=False)
        return self._sequence

    @property
    def sequence(self) -> int:
        """The number of the last own beat."""
        return self._sequence

    def sent_at(self, sequence: int) -> float | None:
        """When the own beat `sequence` was sent, if still known."""
        return self._sent.get(sequence)

    def sent(self) -> list[tuple[int, float]]:
        """Own beats and their sending times, as far as known."""
        return list(self._sent.items())

    def adopt(self, incarnation: int, sequence: int, sent: Mapping[int, float], peers: Collection[Peer]) -> None:
        """Continue for another process of this node. Raises KeyError for a peer that is not expected."""
        self._incarnation, self._sequence = incarnation, sequence
        self._sent = OrderedDict(sent)
        for peer in peers:
            if peer.name not in self.peers:
                raise KeyError(peer.name)
            self.peers[peer.name] = peer

    def echoes(self, now: float) -> tuple[Echo, ...]:
        """The echoes to send to the others."""
        found = []
        for peer in self.peers.values():
            if peer.beat is not None and (peer.alive or peer.waiting is None):
                found.append(Echo(peer.name, peer.incarnation, peer.beat.sequence, now - peer.heard))
            elif peer.waiting is not None:
                incarnation, sequence, heard = peer.waiting
                found.append(Echo(peer.name, incarnation, sequence, now - heard))
        return tuple(found)

    def hear(self, beat: Beat, link: str, now: float) -> Heard:
        """Process a beat. Raises Refused."""
        peer = self._peer(beat.node)
        if now < peer.former.get(beat.incarnation, float("-inf")) + ECHO_AGE * self._lease:
            raise Refused("former life")
        if beat.incarnation != peer.incarnation:
            if self._round_trip(beat, now) is None:
                peer.waiting = beat.incarnation, beat.sequence, now
                return Heard.UNCONFIRMED
            self._replace(peer, beat, now)
        return self._take(peer, beat, link, now)

    def fall_silent(self, now: float) -> list[Peer]:
        """The peers that have just become dead: silent on every link for one lease."""
        dead = [peer for peer in self.peers.values() if peer.alive and now >= peer.heard + self._lease]
        for peer in dead:
            peer.alive = False
        return dead

    def _peer(self, name: str) -> Peer:
        if name == self._me:
            raise Refused("own name")
        peer = self.peers.get(name)
        if peer is None:
            raise Refused("unknown node")
        return peer

    def _round_trip(self, beat: Beat, now: float) -> float | None:
        """Round-trip time in seconds if `beat` echoes a recent own beat."""
        for echo in beat.echoes:
            if echo.node == self._me and echo.incarnation == self._incarnation:
                sent = self.sent_at(echo.sequence)
                if sent is not None and now - sent <= ECHO_AGE * self._lease:
                    return max(0.0, now - sent - echo.held)
        return None

    @staticmethod
    def _replace(peer: Peer, beat: Beat, now: float) -> None:
        """The peer has a new incarnation."""
        if peer.beat is not None:
            peer.former[peer.incarnation] = now
            while len(peer.former) > FORMER:
                del peer.former[next(iter(peer.former))]
        peer.former.pop(beat.incarnation, None)
        peer.incarnation = beat.incarnation
        peer.begin_anew()

    def _take(self, peer: Peer, beat: Beat, name: str, now: float) -> Heard:
        link = peer.links.setdefault(name, LinkState())
        trip = self._round_trip(beat, now)
        if trip is not None and now - peer.heard > ECHO_AGE * self._lease:
            newest = peer.beat.sequence if peer.beat is not None else 0
            if beat.sequence <= max(newest, link.sequence):
                peer.begin_anew()  # it echoes a beat sent after the peer was last heard, so it is not older
        if beat.sequence <= link.sequence:
            raise Refused("replayed")
        link.count(beat.sequence, now)
        if trip is not None:
            link.delay += (trip / 2 - link.delay) * (_SMOOTH if link.delay else 1.0)
        if peer.beat is not None and beat.sequence <= peer.beat.sequence:
            return Heard.COPY
        if not peer.alive:
            peer.alive, peer.since = True, now
        peer.beat, peer.heard = beat, now
        return Heard.NEW
