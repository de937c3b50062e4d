"""`gateway witness`: the witness on a socket, one process for several clusters, each with a key or name of its own."""

import contextlib
import logging
import secrets
import signal
import socket
from collections.abc import Sequence
from typing import Final

from gateway.config.address import Listen
from gateway.hardening.account import Account
from gateway.hardening.confinement import Bounds, settle, shortcomings
from gateway.hardening.roles import WITNESS
from gateway.heartbeat.beat import MAX_BYTES, BadBeat, Beat, Codec
from gateway.heartbeat.guardian import clock
from gateway.heartbeat.links import bound
from gateway.heartbeat.membership import Refused
from gateway.heartbeat.privileges import hurry
from gateway.heartbeat.witness import Witness
from gateway.load.refusals import Refusals

log = logging.getLogger(__name__)

LOOK: Final = 0.5
"""Seconds between two checks whether it must stop, and which nodes are silent."""
MAX_KEYS: Final = 16


class _Voice:
    """The witness of all clusters that share one key: clusters with another key have room of their own."""

    def __init__(self, key: bytes, lease: float) -> None:
        self.codec = Codec(key, cluster=None)
        self.witness = Witness(lease, secrets.randbits(63), clock())
        self._alive: set[tuple[bytes, str]] = set()

    def look(self) -> None:
        """Log the nodes that have appeared or become dead."""
        for cluster, peer in self.witness.fall_silent(clock()):
            log.info("%s of cluster %s: dead", peer.name, cluster.hex())
        alive = {(cluster, peer.name) for cluster, peer in self.witness.peers if peer.alive}
        for cluster, name in alive - self._alive:
            log.info("%s of cluster %s: alive", name, cluster.hex())
        self._alive = alive


def run(listen: Listen, keys: Sequence[bytes], lease: float, who: Account | None, bounds: Bounds) -> None:
    """Serve as `who`, until SIGTERM or SIGINT.

    Raises NoLink, OSError, or ValueError for a key that is too short, or too many of them.
    """
    for line in shortcomings(bounds):
        log.warning("%s", line)
    if len(keys) > MAX_KEYS:
        raise ValueError(f"a witness has at most {MAX_KEYS} keys, not {len(keys)}")
    sock = bound(listen.host, listen.port)
    sock.settimeout(LOOK)
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ended.append(number))
    hurry()
    settle(who, WITNESS, bounds)
    voices = [_Voice(key, lease) for key in dict.fromkeys(keys)]
    refusals = Refusals("beat", log)
    log.info("witness on UDP %s", listen)
    while not ended:
        with contextlib.suppress(TimeoutError):
            _serve(voices, sock, refusals)
        for voice in voices:
            voice.look()


def _serve(voices: Sequence[_Voice], sock: socket.socket, refusals: Refusals) -> None:
    """Respond to one beat. Senders without the key get no response."""
    data, source = sock.recvfrom(MAX_BYTES + 1)
    try:
        voice, beat = _read(voices, data)
        answer = voice.witness.receive(beat, "udp", clock())
    except (BadBeat, Refused) as error:
        refusals.note(str(error), str(error), source[0])
        return
    if answer is not None:
        with contextlib.suppress(OSError):
            sock.sendto(voice.codec.encode(answer), source)


def _read(voices: Sequence[_Voice], data: bytes) -> tuple[_Voice, Beat]:
    """Return the beat and the witness whose key it has. Raises BadBeat."""
    for voice in voices[:-1]:
        with contextlib.suppress(BadBeat):
            return voice, voice.codec.decode(data)
    return voices[-1], voices[-1].codec.decode(data)
