"""The witness without input and output: a voter that promises addresses and never requests any.

It needs no configuration: authentic beats name clusters, nodes and addresses. Each cluster has nodes and promises of
its own, whatever names and addresses others use.
"""

from collections.abc import Iterator
from typing import Final

from gateway.config.cluster import MAX_NODES
from gateway.heartbeat.beat import AdminState, Beat
from gateway.heartbeat.lease import NEVER, Promises
from gateway.heartbeat.membership import Heard, Membership, Peer, Refused
from gateway.heartbeat.node import WITNESS

MAX_CLUSTERS: Final = 16
REMEMBERED: Final = 256
"""Responses to a node that it may echo: half a second's worth at the shortest interval; 25 KB per node."""


class _Cluster:
    """The state of one cluster."""

    def __init__(self, silent_until: float) -> None:
        self.promises = Promises(silent_until)
        self.known: dict[str, Membership] = {}  # one per node: a response to one is not lost for another

    @property
    def peers(self) -> Iterator[Peer]:
        return (known.peers[name] for name, known in self.known.items())

    @property
    def contact(self) -> float:
        """When one of its nodes was last heard."""
        return max((peer.contact for peer in self.peers), default=NEVER)

    def is_idle(self, now: float) -> bool:
        """Whether none of its nodes is alive, and no promise to one is binding."""
        return not any(peer.alive for peer in self.peers) and not any(self.promises.binding(now))


class Witness:
    """`lease`: seconds, at least the longest of the clusters that use it.

    At most MAX_CLUSTERS clusters of MAX_NODES nodes are known. A new one replaces the one that has been silent longest:
    a node that is not alive, or a cluster without such nodes and promises. So only live ones can keep others out.
    Sequence numbers continue, so that no recording confirms one that was forgotten.
    """

    def __init__(self, lease: float, incarnation: int, now: float) -> None:
        self._lease = lease
        self._incarnation = incarnation
        self._silent_until = now + lease
        self._clusters: dict[bytes, _Cluster] = {}
        self._sequence = 0
        """The highest number sent to a node that has been forgotten."""

    @property
    def peers(self) -> list[tuple[bytes, Peer]]:
        """The nodes that have been heard, each with the identity of its cluster."""
        return [(name, peer) for name, cluster in self._clusters.items() for peer in cluster.peers]

    def fall_silent(self, now: float) -> list[tuple[bytes, Peer]]:
        """The nodes that have just become dead."""
        return [
            (name, peer)
            for name, cluster in self._clusters.items()
            for known in cluster.known.values()
            for peer in known.fall_silent(now)
        ]

    def receive(self, beat: Beat, link: str, now: float) -> Beat | None:
        """Process a beat; return the response, if there is one. Raises membership.Refused."""
        cluster = self._cluster(beat.cluster, now)
        known = self._member(cluster, beat.node)
        heard = known.hear(beat, link, now)
        if heard is Heard.COPY:
            return None
        if heard is Heard.NEW and beat.lease <= self._lease:  # after a restart it would vote too early
            cluster.promises.answer(beat, now)
        asked = {claim.address for claim in beat.claims}
        return Beat(
            node=WITNESS,
            incarnation=self._incarnation,
            sequence=known.stamp(now),
            lease=self._lease,
            interval=beat.interval,
            admin_state=AdminState.STANDBY,
            echoes=known.echoes(now),
            votes=tuple(vote for vote in cluster.promises.binding(now) if vote.address in asked),
            cluster=beat.cluster,
        )

    def _cluster(self, identity: bytes, now: float) -> _Cluster:
        found = self._clusters.get(identity)
        if found is None:
            if len(self._clusters) >= MAX_CLUSTERS:
                idle = [name for name, cluster in self._clusters.items() if cluster.is_idle(now)]
                if not idle:
                    raise Refused("too many clusters")
                forgotten = self._clusters.pop(min(idle, key=lambda name: self._clusters[name].contact))
                for known in forgotten.known.values():
                    self._sequence = max(self._sequence, known.sequence)
            found = self._clusters[identity] = _Cluster(self._silent_until)
        return found

    def _member(self, cluster: _Cluster, node: str) -> Membership:
        found = cluster.known.get(node)
        if found is None:
            if node == WITNESS:
                raise Refused("own name")
            if len(cluster.known) >= MAX_NODES:
                dead = [peer for peer in cluster.peers if not peer.alive]
                if not dead:
                    raise Refused("too many nodes")
                forgotten = cluster.known.pop(min(dead, key=lambda peer: peer.contact).name)
                self._sequence = max(self._sequence, forgotten.sequence)
            found = cluster.known[node] = Membership(
                WITNESS, self._incarnation, self._lease, [node], sequence=self._sequence, remembered=REMEMBERED
            )
        return found
