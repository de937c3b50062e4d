"""What surrounds a running gateway: its PID file, the service manager's notifications, signals sent by name."""

import contextlib
import os
import re
import signal
import socket
from pathlib import Path
from typing import Final

from gateway.system import regular_file

MAX_PID_FILE: Final = 64
"""Bytes."""


class NotRunning(Exception):
    """There is no gateway where one was said to be; the text says what was found."""


def notify(state: str) -> None:
    """Tell the service manager, if there is one, such as "READY=1" (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)


class PidFile:
    """Names the supervisor; it changes hands as a whole, so that no reader finds half a number."""

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


def find(target: str) -> int:
    """Return the process id of the supervisor that `target` means: a process id, or the path of a PID file.

    Raises NotRunning, also for a process that is not a supervisor and that a signal might kill.
    """
    owner = None
    if re.fullmatch(r"[0-9]{1,10}", target):
        text = target
    else:
        try:
            content, status = regular_file.read(Path(target), MAX_PID_FILE)
        except OSError as error:
            raise NotRunning(f"{target}: {(error.strerror or str(error)).lower()}") from None
        text = content.decode("ascii", "replace").strip()
        if not re.fullmatch(r"[0-9]{1,10}", text):
            raise NotRunning(f"{target}: not a PID file")
        owner = status.st_uid
    pid = int(text)
    if owner not in (None, 0, _user(pid)):
        raise NotRunning(f"{target}: a file of user {owner} names process {pid}, which is another user's")
    if not catches(pid, signal.SIGHUP) or not catches(pid, signal.SIGUSR2):
        raise NotRunning(f"process {pid} is not the supervisor of a gateway")
    return pid


def _user(pid: int) -> int | None:
    """The user id of a process; None if there is no such process."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def catches(pid: int, number: signal.Signals) -> bool:
    """Tell whether process `pid` exists and handles signal `number` (SigCgt of proc(5))."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught.group(1), 16) >> (number - 1) & 1)
