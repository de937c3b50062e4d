"""The floor: a relay in C that parses nothing (floor.c), before the first of the servers, or before all in turn."""

from dataclasses import replace

from bench.build import build
from bench.peers.peer import Peer, Setup


def command(setup: Setup) -> list[str]:
    """Compile the relay and return its command, for one server. Raises CalledProcessError."""
    port = setup.servers[0].rpartition(":")[2]
    return [build("floor", setup.directory), str(setup.port), port, str(setup.workers)]


FLOOR = Peer("floor", "cc", command, tls=False)

CHOOSING = replace(FLOOR, command=lambda setup: [*command(setup), str(len(setup.servers))])
"""The same before many servers: each request goes to the next."""
