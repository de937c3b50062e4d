"""The surroundings of a running gateway: its PID file, and notifications for the service manager."""

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config.units import clock_text, version_text
from gateway.system import regular_file
from gateway.system.running import MAX_PID_FILE
from loadagent.printable import printable


def notify(state: str) -> None:
    """Tell the service manager, if there is one, such as "READY=1" (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)


def status_line(about: Mapping[str, Any]) -> str:
    """What the service manager shows: which configuration is in use. `about`: what the supervisor says of itself."""
    last = about["last_reload"]
    named = version_text(about["version"], last["history"])
    if last["accepted"]:
        return f"{named} of {about['site']}"
    first = printable(last["problems"].partition("\n")[0])
    if last["last_good"] is not None:
        return f"STARTED WITH THE LAST GOOD CONFIGURATION of {clock_text(last['last_good'])}: {first}"
    return f"RELOAD REFUSED, keeping {named}: {first}"


class Watchdog:
    """Tells the service manager twice in each period that this process still works (sd_watchdog_enabled(3)).

    A successor of an upgrade inherits the period, and is the main process then.
    """

    def __init__(self) -> None:
        period = os.environ.get("WATCHDOG_USEC", "")
        self._pause = int(period) / 2e6 if period.isdigit() and int(period) > 0 else float("inf")
        self.deadline = 0.0 if self._pause < float("inf") else float("inf")
        """When to tell it next, time.monotonic(); infinite without a watchdog."""

    def keep_time(self, now: float) -> None:
        """Tell it if that is due."""
        if now >= self.deadline:
            notify("WATCHDOG=1")
            self.deadline = now + self._pause


class PidFile:
    """Names the supervisor; it is replaced atomically, so that no reader finds half a number."""

    def __init__(self, path: Path) -> None:
        # The working directory of a later command may differ, but the file stays where it is.
        self._path = path.absolute()

    def write(self) -> None:
        """Name this process. Raises OSError."""
        regular_file.replace(self._path, f"{os.getpid()}\n".encode(), 0o644)

    def remove(self) -> None:
        """Remove it, unless it names another process: a successor's is not ours to take away."""
        with contextlib.suppress(OSError):
            text, _ = regular_file.read(self._path, MAX_PID_FILE)
            if text.strip() == str(os.getpid()).encode():
                self._path.unlink()
