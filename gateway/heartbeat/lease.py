"""Leases: a voter promises an address to one candidate at a time; a candidate with a majority of promises may own it.

The idea is that of Gray & Cheriton (SOSP 1989), with votes as in quorum consensus (Gifford, SOSP 1979). A voter counts
from when it received the request, a candidate from when it sent it, both by a clock of their own that continues while
the process is stopped (CLOCK_BOOTTIME); only the rates of two clocks matter, and DRIFT allows for their difference. So
a candidate always stops before a voter would promise the address to another, whatever happens to messages.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.heartbeat.beat import Beat, Stake, Vote

DRIFT: Final = 0.02
"""Largest relative difference in the rates of two clocks: a thousand times that of quartz."""
MAX_PROMISES: Final = 256
NEVER: Final = float("-inf")


@dataclass(slots=True)
class _Promise:
    vote: Vote
    until: float


class Promises:
    """A voter's memory. `silent_until`: no promises before: an earlier incarnation may have made some."""

    def __init__(self, silent_until: float) -> None:
        self.silent_until = silent_until
        self._promises: dict[str, _Promise] = {}

    def answer(self, beat: Beat, now: float) -> None:
        """Make or release the promises that a beat requires."""
        for claim in beat.claims:
            vote = Vote(claim.address, beat.node, beat.incarnation, beat.sequence)
            if claim.stake is Stake.IDLE:
                self.release(vote)
            else:
                self.ask(vote, beat.lease, now)

    def ask(self, vote: Vote, lease: float, now: float) -> bool:
        """Promise `vote.address` to its candidate for `lease` seconds, unless another has it; return whether it did."""
        if now < self.silent_until:
            return False
        promise = self._promises.get(vote.address)
        if promise is None or now >= promise.until:
            if promise is None and len(self._promises) >= MAX_PROMISES:
                return False
            self._promises[vote.address] = _Promise(vote, now + lease)
            return True
        if (promise.vote.candidate, promise.vote.incarnation) != (vote.candidate, vote.incarnation):
            return False
        if vote.sequence > promise.vote.sequence:
            promise.vote, promise.until = vote, max(promise.until, now + lease)
        return True

    def release(self, vote: Vote) -> None:
        """A later beat of the candidate shows that it neither owns nor requests the address."""
        promise = self._promises.get(vote.address)
        if (
            promise is not None
            and (promise.vote.candidate, promise.vote.incarnation) == (vote.candidate, vote.incarnation)
            and vote.sequence > promise.vote.sequence
        ):
            del self._promises[vote.address]

    def given(self) -> Iterator[tuple[Vote, float]]:
        """Every promise, and until when it is binding."""
        for promise in self._promises.values():
            yield promise.vote, promise.until

    def adopt(self, silent_until: float, given: Collection[tuple[Vote, float]]) -> None:
        """Continue with the promises of another process of this node."""
        self.silent_until = silent_until
        self._promises = {vote.address: _Promise(vote, until) for vote, until in given}

    def binding(self, now: float) -> Iterator[Vote]:
        """The binding promises."""
        for promise in self._promises.values():
            if now < promise.until:
                yield promise.vote


def held_until(votes: Mapping[str, float], needed: int, lease: float) -> float:
    """Until when `needed` votes hold; `votes`: voter → when the request for the vote was sent."""
    if len(votes) < needed:
        return NEVER
    return sorted(votes.values(), reverse=True)[needed - 1] + lease * (1.0 - DRIFT)


def held_by_all(votes: Mapping[str, float], voters: Collection[str], lease: float) -> float:
    """Until when the votes of all `voters` hold."""
    return min((votes.get(voter, NEVER) for voter in voters), default=NEVER) + lease * (1.0 - DRIFT)
