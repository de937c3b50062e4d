"""The witness without its input and output: a voice that promises addresses and wants none.

It needs no configuration: nodes and addresses are those that authentic beats name.
"""

from gateway.heartbeat.beat import Beat, Standing
from gateway.heartbeat.lease import Promises
from gateway.heartbeat.membership import Heard, Membership, Peer, Refused
from gateway.heartbeat.node import WITNESS

MAX_NODES = 64


class Witness:
    """`lease`: seconds, at least the longest of the clusters that ask it."""

    def __init__(self, lease: float, incarnation: int, now: float) -> None:
        self._lease = lease
        self._incarnation = incarnation
        self._promises = Promises(now + lease)
        self._known: dict[str, Membership] = {}  # one for each node: what is said to one is not missed by another

    @property
    def peers(self) -> list[Peer]:
        """The nodes that have been heard."""
        return [known.peers[name] for name, known in self._known.items()]

    def fall_silent(self, now: float) -> list[Peer]:
        """Those that have become dead."""
        return [peer for known in self._known.values() for peer in known.fall_silent(now)]

    def receive(self, beat: Beat, link: str, now: float) -> Beat | None:
        """Take a beat; the answer, if there is one. Raises membership.Refused."""
        known = self._known.get(beat.node)
        if known is None:
            if len(self._known) >= MAX_NODES:
                raise Refused("too many nodes")
            known = self._known[beat.node] = Membership(WITNESS, self._incarnation, self._lease, [beat.node])
        heard = known.hear(beat, link, now)
        if heard is Heard.COPY:
            return None
        if heard is Heard.NEW and beat.lease <= self._lease:  # after a restart it would speak too early
            self._promises.answer(beat, now)
        asked = {claim.address for claim in beat.claims}
        return Beat(
            node=WITNESS,
            incarnation=self._incarnation,
            sequence=known.stamp(now),
            lease=self._lease,
            interval=beat.interval,
            standing=Standing.STANDBY,
            echoes=known.echoes(now),
            votes=tuple(vote for vote in self._promises.standing(now) if vote.address in asked),
        )
