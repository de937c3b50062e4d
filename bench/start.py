"""From the command to the first answer."""

import contextlib
import http.client
import time
from collections.abc import Sequence

from bench.farm import START_SECONDS, FarmFailed, Layout, ground, process_on
from bench.figure import Figure
from bench.peers.floor import FLOOR
from bench.peers.peer import Peer
from bench.rounds import Turns

CASE = "start-up"
LOOK = 0.002


def first_answer(port: int) -> None:
    """Return when a request on the local `port` has been answered. Raises FarmFailed."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/bytes/10")
            if connection.getresponse().status == http.client.OK:
                connection.close()
                return
        connection.close()
        time.sleep(LOOK)
    raise FarmFailed(f"no answer on port {port} within {START_SECONDS:g} s")


def measure(peers: Sequence[Peer], rounds: int) -> list[Figure]:
    """Return the milliseconds that each takes. Raises FarmFailed."""
    turns = Turns()
    with ground(Layout(proxy_cores="0,1", load_cores="0,1")) as base:
        for turn in range(1 + rounds):  # the first leaves compiled Python behind, as an installation does
            for peer in peers:
                if peer.name != FLOOR.name:
                    setup = base.setup()
                    began = time.monotonic()
                    process = peer.start(setup)
                    first_answer(setup.port)
                    took = time.monotonic() - began
                    with process_on(process, setup.port, base.place / f"{peer.name}.err"):
                        if turn:
                            turns.add(CASE, peer.name, {"start": took * 1000})
    return turns.figures()
