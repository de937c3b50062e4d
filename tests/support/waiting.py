"""Waits for an event in another process: by polling, with a time limit, and a reason on failure."""

import asyncio
import itertools
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PAUSE = 0.01  # seconds between two looks
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def eventually(holds: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Return as soon as `holds()` is true. Raises AssertionError, naming `what`, after `seconds`.

    A process that does not answer yet (OSError, or ValueError for half an answer) counts as false.
    """
    end = time.monotonic() + seconds
    while True:
        trouble = ""
        try:
            if holds():
                return
        except (OSError, ValueError) as error:
            trouble = f" ({error})"
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}{trouble}"
        time.sleep(PAUSE)


async def soon(holds: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """The same for what other tasks of this event loop do."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not holds():
        assert loop.time() < end, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(PAUSE)


def _fixed_ports() -> Iterator[int]:
    """The ports that the kernel gives to programs that ask for one by number only, in an order of this run alone.

    Processes that run tests side by side (pytest-xdist) have ports of their own.

    One that it does give could become the local port of a connection before the test listens on it, and who connects
    to one without a listener may be connected to itself there (RFC 9293 section 3.5, simultaneous open).
    """
    low, high = map(int, EPHEMERAL.read_text().split())
    ports = [*range(5000, low), *range(high + 1, 65536)]
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = ports[mine :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    random.SystemRandom().shuffle(ports)
    return itertools.cycle(ports)


_ports = _fixed_ports()


def _free(kind: socket.SocketKind) -> int:
    for port in _ports:
        with socket.socket(type=kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("there are no ports")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on, and that no other caller gets."""
    return _free(socket.SOCK_STREAM)


def answers(host: str, port: int) -> bool:
    """Tell whether a process accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def free_udp_port() -> int:
    """Return a UDP port of 127.0.0.1 that is free, and that no other caller gets."""
    return _free(socket.SOCK_DGRAM)
