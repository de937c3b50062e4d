"""Who is there: which beats count as heard, and since when which node is silent.

A beat counts if it comes from a process that is known to run now: one that has echoed something that this process said
a moment ago. So nothing that was recorded in an earlier life of either side is believed, and no clock is compared.
Within one life of a process its sequence numbers only grow; what is not above the last is a copy. They begin anew only
after a silence in which whatever was recorded before became too old to be confirmed: so a number that was forged too
high, by a process that has the key, does not shut the true one out for good.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from gateway.heartbeat.beat import Beat, Echo

REMEMBERED: Final = 2048
"""Own beats whose time of sending is known."""
FORMER: Final = 8
"""Earlier lives of a peer that are known."""
ECHO_AGE: Final = 4.0
"""Leases for which an own beat may confirm who echoes it."""
_SMOOTH: Final = 1 / 16


class Heard(Enum):
    """What became of a beat."""

    NEW = "new"
    COPY = "copy"
    """Came before, over another link: only that link is alive."""
    UNCONFIRMED = "unconfirmed"
    """From a process that has yet to show that it runs now."""


class Refused(Exception):
    """An authentic beat that must not count; the text is a short reason for counters."""


@dataclass(slots=True)
class Link:
    """One way over which a peer is heard."""

    sequence: int = 0
    heard: float = float("-inf")
    loss: float = 0.0
    """Share of beats that did not come this way, smoothed."""
    delay: float = 0.0
    """Seconds one way, smoothed: half of the time there and back less what the peer held it."""

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
    """The newest that counted."""
    heard: float = float("-inf")
    since: float = float("-inf")
    """When it became alive."""
    alive: bool = False
    links: dict[str, Link] = field(default_factory=dict)
    waiting: tuple[int, int, float] | None = None
    """Incarnation, sequence and time of the last beat of an unconfirmed process."""
    former: dict[int, float] = field(default_factory=dict)
    """Incarnation of an earlier life → when a later one was heard.

    What confirms a beat is younger than ECHO_AGE: so one that is confirmed longer after that is not of an earlier life.
    """

    @property
    def contact(self) -> float:
        """When it was heard last, confirmed or not."""
        return max(self.heard, self.waiting[2] if self.waiting is not None else self.heard)

    def begin_anew(self) -> None:
        """Forget its sequence numbers."""
        self.beat = self.waiting = None
        self.alive = False
        for link in self.links.values():
            link.sequence = 0


class Membership:
    """What `me`, in its life `incarnation`, knows of the others. `expected`: their names.

    `sequence`: the last number of an own beat so far. `remembered`: own beats whose time of sending is kept.
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
        """Return the sequence number of a beat that is sent now."""
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
        """When the own beat `sequence` was sent, if that is still known."""
        return self._sent.get(sequence)

    def sent(self) -> list[tuple[int, float]]:
        """Own beats and when they were sent, as far as that is known."""
        return list(self._sent.items())

    def adopt(self, incarnation: int, sequence: int, sent: Mapping[int, float], peers: Collection[Peer]) -> None:
        """Go on for another process of this node. Raises KeyError: a peer that is none of the expected."""
        self._incarnation, self._sequence = incarnation, sequence
        self._sent = OrderedDict(sent)
        for peer in peers:
            if peer.name not in self.peers:
                raise KeyError(peer.name)
            self.peers[peer.name] = peer

    def echoes(self, now: float) -> tuple[Echo, ...]:
        """What to tell the others about having heard them."""
        found = []
        for peer in self.peers.values():
            if peer.beat is not None and (peer.alive or peer.waiting is None):
                found.append(Echo(peer.name, peer.incarnation, peer.beat.sequence, now - peer.heard))
            elif peer.waiting is not None:
                incarnation, sequence, heard = peer.waiting
                found.append(Echo(peer.name, incarnation, sequence, now - heard))
        return tuple(found)

    def hear(self, beat: Beat, link: str, now: float) -> Heard:
        """Take a beat. Raises Refused."""
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
        """Those that have become dead: nothing was heard over any link for a lease."""
        dead = [peer for peer in self.peers.values() if peer.alive and now >= peer.heard + self._lease]
        for peer in dead:
            peer.alive = False
        return dead

    def _peer(self, name: str) -> Peer:
        if name == self._me:
            raise Refused("own name")
        peer = self.peers.get(name)
        if peer is None:
            raise Refused("stranger")
        return peer

    def _round_trip(self, beat: Beat, now: float) -> float | None:
        """Seconds there and back if `beat` echoes something said a moment ago."""
        for echo in beat.echoes:
            if echo.node == self._me and echo.incarnation == self._incarnation:
                sent = self.sent_at(echo.sequence)
                if sent is not None and now - sent <= ECHO_AGE * self._lease:
                    return max(0.0, now - sent - echo.held)
        return None

    @staticmethod
    def _replace(peer: Peer, beat: Beat, now: float) -> None:
        """It is another process now."""
        if peer.beat is not None:
            peer.former[peer.incarnation] = now
            while len(peer.former) > FORMER:
                del peer.former[next(iter(peer.former))]
        peer.former.pop(beat.incarnation, None)
        peer.incarnation = beat.incarnation
        peer.begin_anew()

    def _take(self, peer: Peer, beat: Beat, name: str, now: float) -> Heard:
        link = peer.links.setdefault(name, Link())
        trip = self._round_trip(beat, now)
        if trip is not None and now - peer.heard > ECHO_AGE * self._lease:
            newest = peer.beat.sequence if peer.beat is not None else 0
            if beat.sequence <= max(newest, link.sequence):
                peer.begin_anew()  # it echoes what was said since the peer was heard last, so it was not sent before
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
