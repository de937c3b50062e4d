"""The third voice without a machine of its own: the lease on a disk that all nodes share. Pure.

Each node writes its beats into a block of its own, and reads those of all others: nothing is ever written by two. What
a node claims in its block is a flag, in the sense of Dekker's algorithm: it sets its own, then looks at the others'.
The disk's vote is its own if no other flag was up. Of two that look at the same time at least one sees the other, so
never do both have the vote, however long a write or a read is on its way; that both may go without is for the election
to settle.

A flag that is not renewed falls (light-weight leases, Chockler & Malkhi, PODC 2002): a reader counts from the end
of the read that first showed the flag, a writer from before the write; so a flag is ignored only when its owner
relies on it no more. Its holder keeps the vote by writing in time: no other can have seen the flag fall. Clocks are
compared by their rates only (see lease.py); one that has stood still with its machine does not know that a write was
late, so a fresh flag of another that owns the address ends the vote all the same, unless it is the flag of one from
whom the vote was taken and who has not had it anew: then it is that one's clock that stood still. Blocks say since when
their nodes have had the vote, by the number of a beat of their own.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.heartbeat.beat import AdminState, Beat, Echo, Stake, Vote
from gateway.heartbeat.lease import DRIFT, NEVER
from gateway.heartbeat.node import WITNESS


@dataclass(slots=True)
class _Block:
    """What another node's block says. Times in seconds of the reader's clock."""

    content: bytes | None = None
    since: float = NEVER
    """The end of the read that first showed it."""
    read: float = NEVER
    """The begin of the last read that showed it."""
    beat: Beat | None = None
    """None: nothing that could be believed, so every flag counts as up."""
    node: str = ""
    """Whose it is; what follows is of its newest beat that could be believed."""
    incarnation: int = -1
    sequence: int = -1
    lease: float = 0.0
    reborn: float = NEVER
    """When another life of the node was first seen: what the earlier one claimed must run out."""

    def show(self, content: bytes | None, beat: Beat | None, begin: float, end: float) -> None:
        """Take what was read from `begin` to `end`; None if it could not be read."""
        self.read = begin
        if content is not None and content == self.content:
            return
        self.content, self.since = content, end
        if beat is not None and beat.incarnation == self.incarnation and beat.sequence <= self.sequence:
            beat = None  # an older one returns: not to be believed
        self.beat = beat
        if beat is not None:
            if beat.incarnation != self.incarnation:
                self.reborn = end
            self.node, self.lease = beat.node, beat.lease
            self.incarnation, self.sequence = beat.incarnation, beat.sequence

    def flag(self, address: str, lease: float) -> bool:
        """Whether its node may count on the disk's vote for `address`, or is about to."""
        lease = max(lease, self.lease)
        if self.content is None:
            return True
        if self.read >= self.since + lease:
            return False
        if self.beat is None or self.read < self.reborn + lease:
            return True
        return any(claim.address == address and claim.stake is not Stake.IDLE for claim in self.beat.claims)

    def owner(self, address: str, lease: float) -> Vote | None:
        """The disk's vote as it is its node's, if that says that it has the address, and has said something of late.

        `sequence`: of the beat with which its node got the vote.
        """
        beat = self.beat
        if beat is None or not self.flag(address, lease):
            return None
        if not any(claim.address == address and claim.stake is Stake.OWNING for claim in beat.claims):
            return None
        own = (vote.sequence for vote in beat.votes if (vote.address, vote.candidate) == (address, beat.node))
        return Vote(address, beat.node, beat.incarnation, next(own, beat.sequence))


class DiskWitness:
    """What a node knows of the disk. `others`: the places of the other nodes' blocks."""

    def __init__(self, incarnation: int, others: Iterable[int]) -> None:
        self._incarnation = incarnation
        self._sequence = 0
        self._blocks = {place: _Block() for place in others}
        self._held: dict[str, float] = {}
        self._taken: dict[str, dict[str, tuple[int, int]]] = {}
        """Address → node → incarnation and sequence of what it had said last when its claim was found to be over."""

    def show(self, place: int, content: bytes | None, beat: Beat | None, begin: float, end: float) -> None:
        """Take what was read at `place`: its bytes, and the beat that they are if they are authentic."""
        self._blocks[place].show(content, beat, begin, end)

    def answer(self, own: Beat, begin: float, end: float) -> Beat:
        """Return what the disk says to `own`, which was written from `begin` to `end`; all blocks were read since."""
        votes = []
        for claim in own.claims:
            other = self._owner(claim.address, own.lease)
            if other is not None:
                votes.append(other)
            if claim.stake is Stake.IDLE or other is not None:
                self._held.pop(claim.address, None)
            elif end < self._held.get(claim.address, NEVER) or self._take(claim.address, own.lease):
                self._held[claim.address] = begin + own.lease * (1.0 - DRIFT)
                votes.append(Vote(claim.address, own.node, own.incarnation, own.sequence))
            else:
                self._held.pop(claim.address, None)
        self._sequence += 1
        return Beat(
            node=WITNESS,
            incarnation=self._incarnation,
            sequence=self._sequence,
            lease=own.lease,
            interval=own.interval,
            admin_state=AdminState.STANDBY,
            echoes=(Echo(own.node, own.incarnation, own.sequence, 0.0),),
            votes=tuple(votes),
        )

    def forget(self) -> None:
        """Something else was found in the own block: nothing is held any more."""
        self._held.clear()

    def _owner(self, address: str, lease: float) -> Vote | None:
        owners = (block.owner(address, lease) for block in self._blocks.values())
        return next((vote for vote in owners if vote is not None and not self._is_over(vote)), None)

    def _is_over(self, vote: Vote) -> bool:
        """Whether it is one that was taken from its node, by who has had it since."""
        if vote.address not in self._held:
            return False
        incarnation, sequence = self._taken.get(vote.address, {}).get(vote.candidate, (-1, -1))
        return vote.incarnation == incarnation and vote.sequence <= sequence

    def _take(self, address: str, lease: float) -> bool:
        """Take the vote if no other flag is up."""
        if any(block.flag(address, lease) for block in self._blocks.values()):
            return False
        self._taken[address] = {
            block.node: (block.incarnation, block.sequence) for block in self._blocks.values() if block.node
        }
        return True
