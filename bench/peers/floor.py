"""The floor: a relay in C that looks at nothing (floor.c), before the first of the servers."""

from bench.build import build
from bench.peers.peer import Peer, Setup


def command(setup: Setup) -> list[str]:
    """Compile the relay and return its command. Raises CalledProcessError."""
    port = setup.servers[0].rpartition(":")[2]
    return [build("floor", setup.directory), str(setup.port), port, str(setup.workers)]


FLOOR = Peer("floor", "cc", command, tls=False)
