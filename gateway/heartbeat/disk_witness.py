"""A witness that needs no machine of its own: the lease on a disk shared by all nodes. Pure.

Each node writes its beats into its own block and reads the blocks of all others: no block has two writers. A claim in a
node's block is a flag as in Dekker's algorithm: a node sets its own flag, then reads the others'. It has the disk's
vote if no other flag was set. Of two nodes that read at the same time at least one sees the other's flag, so the two
never both have the vote, however long a write or a read takes; both may be without it, which the election resolves.

A flag that is not renewed expires (light-weight leases, Chockler & Malkhi, PODC 2002): a reader counts from the end
of the read that first showed the flag, a writer from before the write; so a flag is ignored only when its owner no
longer relies on it. The holder keeps the vote by writing in time: then no other node can have seen the flag expire.
Clocks are compared by their rates only (see lease.py). A clock that has stopped together with its machine does not show
that a write was late, so the vote also ends when a fresh flag shows another owner of the address; except if this node
took the vote from that owner, which has not obtained it again since: then it is the other clock that has stopped.
Blocks record since when their nodes have had the vote, as the number of one of their own beats.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.heartbeat.beat import AdminState, Beat, Echo, Stake, Vote
from gateway.heartbeat.lease import DRIFT, NEVER
from gateway.heartbeat.node import WITNESS


@dataclass(slots=True)
class _Block:
    """The content of another node's block. Times in seconds of the reader's clock."""

    content: bytes | None = None
    since: float = NEVER
    """End of the read that first showed it."""
    read: float = NEVER
    """Start of the last read that showed it."""
    beat: Beat | None = None
    """None: no valid beat, so every flag counts as set."""
    node: str = ""
    """The node of the block; the following fields are of its newest valid beat."""
    incarnation: int = -1
    sequence: int = -1
    lease: float = 0.0
    reborn: float = NEVER
    """When a new incarnation of the node was first seen: the claims of the earlier one must expire."""

    def show(self, content: bytes | None, beat: Beat | None, begin: float, end: float) -> None:
        """Process a read from `begin` to `end`; None: it could not be read."""
        self.read = begin
        if content is not None and content == self.content:
            return
        self.content, self.since = content, end
        if beat is not None and beat.incarnation == self.incarnation and beat.sequence <= self.sequence:
            beat = None  # an older beat again: not valid
        self.beat = beat
        if beat is not None:
            if beat.incarnation != self.incarnation:
                self.reborn = end
            self.node, self.lease = beat.node, beat.lease
            self.incarnation, self.sequence = beat.incarnation, beat.sequence

    def flag(self, address: str, lease: float) -> bool:
        """Whether the node may rely on the disk's vote for `address`, or is about to."""
        lease = max(lease, self.lease)
        if self.content is None:
            return True
        if self.read >= self.since + lease:
            return False
        if self.beat is None or self.read < self.reborn + lease:
            return True
        return any(claim.address == address and claim.stake is not Stake.IDLE for claim in self.beat.claims)

    def owner(self, address: str, lease: float) -> Vote | None:
        """The disk's vote as held by this node, if its recent beats claim that it owns the address.

        `sequence`: of the beat with which it obtained the vote.
        """
        beat = self.beat
        if beat is None or not self.flag(address, lease):
            return None
        if not any(claim.address == address and claim.stake is Stake.OWNING for claim in beat.claims):
            return None
        own = (vote.sequence for vote in beat.votes if (vote.address, vote.candidate) == (address, beat.node))
        return Vote(address, beat.node, beat.incarnation, next(own, beat.sequence))


class DiskWitness:
    """A node's view of the disk. `others`: the places of the other nodes' blocks."""

    def __init__(self, incarnation: int, others: Iterable[int]) -> None:
        self._incarnation = incarnation
        self._sequence = 0
        self._blocks = {place: _Block() for place in others}
        self._held: dict[str, float] = {}
        self._taken: dict[str, dict[str, tuple[int, int]]] = {}
        """Address → node → incarnation and sequence of its last beat when its claim was found to have expired."""

    def show(self, place: int, content: bytes | None, beat: Beat | None, begin: float, end: float) -> None:
        """Process a read of `place`: its bytes, and the beat in them if it is authentic."""
        self._blocks[place].show(content, beat, begin, end)

    def answer(self, own: Beat, begin: float, end: float) -> Beat:
        """Return the disk's response to `own`, written from `begin` to `end`; all blocks were read after that."""
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
        """This node's block had other content: discard all votes held."""
        self._held.clear()

    def _owner(self, address: str, lease: float) -> Vote | None:
        owners = (block.owner(address, lease) for block in self._blocks.values())
        return next((vote for vote in owners if vote is not None and not self._is_over(vote)), None)

    def _is_over(self, vote: Vote) -> bool:
        """Whether the vote was taken from its node, by a node that has held it since."""
        if vote.address not in self._held:
            return False
        incarnation, sequence = self._taken.get(vote.address, {}).get(vote.candidate, (-1, -1))
        return vote.incarnation == incarnation and vote.sequence <= sequence

    def _take(self, address: str, lease: float) -> bool:
        """Take the vote if no other flag is set."""
        if any(block.flag(address, lease) for block in self._blocks.values()):
            return False
        self._taken[address] = {
            block.node: (block.incarnation, block.sequence) for block in self._blocks.values() if block.node
        }
        return True
