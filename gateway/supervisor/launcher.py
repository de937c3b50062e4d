"""Starts the next gateway in such a way that it can become a child of the service manager.

At `systemctl stop`, systemd waits for the main process only if that was its own child when it was named (MAINPID= of
sd_notify(3)); it kills any other at once, with the requests that it is about to finish. So a launcher stands between
the old supervisor and the new one: it is the new one's parent until that carries traffic, and then it ends, which
leaves the new one to the first process of the system, or to the service manager of the user.
"""

import contextlib
import os
import resource
import signal
from collections.abc import Mapping

from gateway.hardening import kernel
from gateway.system import descriptors

_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_LONGEST = 16
"""Bytes of a number in decimal."""


class Launcher:
    """The process between the two; it ends as the new supervisor does, so that the old one learns how that ended."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        """Run `command`, with all descriptors that are inheritable. Raises OSError."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            _run(command, environment, writing)
        os.close(writing)
        try:
            said = int(os.read(reading, _LONGEST) or b"0")
        finally:
            os.close(reading)
        if said <= 0:
            os.waitpid(self.pid, 0)
            raise OSError(-said, os.strerror(-said))
        self.launched = said
        """The process id of the new supervisor."""

    def leave(self) -> None:
        """Let the new supervisor live without this process."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _run(command: list[str], environment: Mapping[str, str], writing: int) -> None:
    """The launcher; never returns."""
    try:
        signal.set_wakeup_fd(-1)
        kernel.end_with_parent()
        try:
            pid = os.posix_spawn(command[0], command, environment)
        except OSError as error:
            os.write(writing, b"-%d" % (error.errno or 0))
            return
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Among them the new supervisor's end of the pipe to the old one: a copy would hide that it died.
        descriptors.close_all_but({writing})
        os.write(writing, b"%d" % pid)
        os.close(writing)
        _, status = os.waitpid(pid, 0)
        _end_like(os.waitstatus_to_exitcode(status))
    finally:
        os._exit(1)


def _end_like(code: int) -> None:
    """End with an exit status, or, if the number is negative, by that signal, without a second core dump."""
    if code >= 0:
        os._exit(code)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # SIGKILL has no handler
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
