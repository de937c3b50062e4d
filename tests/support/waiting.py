"""Waiting for what another process does: by polling, bounded in time, and with a reason when it fails."""

import socket
import time
from collections.abc import Callable

PAUSE = 0.01  # seconds between two looks


def eventually(holds: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Return as soon as `holds()` is true. Raises AssertionError, naming `what`, after `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(PAUSE)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(host: str, port: int) -> bool:
    """Tell whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def free_udp_port() -> int:
    """Return a UDP port of 127.0.0.1 that nobody uses right now."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
