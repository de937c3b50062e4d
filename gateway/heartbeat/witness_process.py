"""`gateway witness`: the witness on a socket. One small process for any number of clusters that have the same key."""

import contextlib
import logging
import secrets
import signal
import socket
from typing import Final

from gateway.config.address import Listen
from gateway.heartbeat.beat import MAX_BYTES, BadBeat, Codec
from gateway.heartbeat.guardian import clock
from gateway.heartbeat.links import bound
from gateway.heartbeat.membership import Refused
from gateway.heartbeat.privileges import hurry
from gateway.heartbeat.witness import Witness

log = logging.getLogger(__name__)

LOOK: Final = 0.5
"""Seconds between two looks at whether it was told to stop, and at who is silent."""


def run(listen: Listen, key: bytes, lease: float) -> None:
    """Answer until SIGTERM or SIGINT. Raises NoLink, or ValueError for a key that is too short."""
    codec = Codec(key)
    sock = bound(listen.host, listen.port)
    sock.settimeout(LOOK)
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ended.append(number))
    hurry()
    witness = Witness(lease, secrets.randbits(63), clock())
    log.info("witness on UDP %s", listen)
    alive: set[str] = set()
    while not ended:
        with contextlib.suppress(TimeoutError):
            _serve(witness, codec, sock)
        for peer in witness.fall_silent(clock()):
            log.info("%s: dead", peer.name)
        now_alive = {peer.name for peer in witness.peers if peer.alive}
        for name in now_alive - alive:
            log.info("%s: alive", name)
        alive = now_alive


def _serve(witness: Witness, codec: Codec, sock: socket.socket) -> None:
    data, source = sock.recvfrom(MAX_BYTES + 1)
    try:
        answer = witness.receive(codec.decode(data), "udp", clock())
    except (BadBeat, Refused):
        return  # says nothing to strangers
    if answer is not None:
        with contextlib.suppress(OSError):
            sock.sendto(codec.encode(answer), source)
