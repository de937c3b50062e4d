"""The state that a heartbeat process hands over to its successor at an upgrade, which then acts as the same node.

The successor gets the incarnation, the sequence numbers, the promises made and the votes held, all by the clock of the
machine; the deadlines in the kernel (fence.py) are passed as a descriptor. So other nodes notice nothing, and promises
stay valid. The two processes may be of different versions: hence JSON with a format number.
"""

import hashlib
from typing import Any, Final

from gateway.config.cluster import Cluster
from gateway.heartbeat.beat import AdminState, BadBeat, Codec, Vote
from gateway.heartbeat.membership import LinkState, Peer
from gateway.heartbeat.node import Node
from gateway.heartbeat.ownership import State

FORMAT: Final = 2
MAX_BYTES: Final = 1 << 18


class BadHandover(Exception):
    """The state handed over cannot be used; the message gives the reason."""


def terms(node: str, cluster: Cluster, key: bytes) -> bytes:
    """A digest of the settings that both must share for one to continue as the other."""
    return hashlib.sha256(f"{FORMAT} {node} {cluster!r}".encode() + key).digest()


def hand_over(node: Node, codec: Codec) -> dict[str, Any]:
    """Return the state of `node` in a form that JSON can represent."""
    membership = node.membership
    return {
        "format": FORMAT,
        "incarnation": node.incarnation,
        "sequence": membership.sequence,
        "sent": membership.sent(),
        "admin_state": node.admin_state.value,
        "silent_until": node.promises.silent_until,
        "promises": [[*vote, until] for vote, until in node.promises.given()],
        "peers": [_peer(peer, codec) for peer in membership.peers.values() if peer.beat is not None],
        "holdings": {
            address: {
                "state": holding.state.value,
                "fitness": holding.fitness,
                "reason": holding.reason,
                "asked_from": holding.asked_from,
                "votes": holding.votes,
                "voice_from": holding.voice_from,
                "until": holding.until,
                "last_owner": holding.last_owner,
            }
            for address, holding in node.holdings.items()
            if holding.state is State.OWNER
        },
    }


def adopt(node: Node, received: dict[str, Any], codec: Codec) -> None:
    """Initialize a new `node` with the state that was handed over. Raises BadHandover."""
    try:
        if received["format"] != FORMAT:
            raise BadHandover(f"format {received['format']} is unknown")
        node.incarnation = received["incarnation"]
        node.admin_state = AdminState(received["admin_state"])
        node.promises.adopt(
            received["silent_until"], [(Vote(*fields), until) for *fields, until in received["promises"]]
        )
        peers = [_adopted(described, codec) for described in received["peers"]]
        node.membership.adopt(received["incarnation"], received["sequence"], dict(received["sent"]), peers)
        for address, described in received["holdings"].items():
            holding = node.holdings[address]
            holding.state = State(described.pop("state"))
            for name, value in described.items():
                if name in _HOLDING:
                    setattr(holding, name, value)
    except (KeyError, TypeError, ValueError, BadBeat) as error:
        raise BadHandover(f"cannot be parsed: {error!r}") from None


_HOLDING: Final = frozenset(("fitness", "reason", "asked_from", "votes", "voice_from", "until", "last_owner"))


def _peer(peer: Peer, codec: Codec) -> dict[str, Any]:
    return {
        "name": peer.name,
        "beat": codec.encode(peer.beat).hex() if peer.beat is not None else "",
        "heard": peer.heard,
        "since": peer.since,
        "alive": peer.alive,
        "former": list(peer.former),
        "links": {name: [link.sequence, link.heard, link.loss, link.delay] for name, link in peer.links.items()},
    }


def _adopted(described: dict[str, Any], codec: Codec) -> Peer:
    beat = codec.decode(bytes.fromhex(described["beat"]))
    peer = Peer(described["name"], beat.incarnation, beat, described["heard"], described["since"], described["alive"])
    peer.former = dict.fromkeys(described["former"], described["heard"])
    peer.links = {name: LinkState(*fields) for name, fields in described["links"].items()}
    return peer
