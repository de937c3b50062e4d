"""Runs a function in a short-lived child process: one that reads from others, or runs their code."""

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection

from gateway.hardening import kernel
from gateway.system import crash_report, descriptors

log = logging.getLogger(__name__)

Write = Callable[[bytes], None]
Task = Callable[[Write], None]
Confine = Callable[[], None]


def run_helper(
    prepare: Callable[[], Task],
    settle: Confine,
    seconds: float,
    limit: int,
    broken: str,
    kept: Collection[int] = (),
) -> bytes:
    """Run a function in a child that has given up what it must not have, and return what it has said by its end.

    `prepare` is called in the child first, while it still may read what this process may: it loads what is needed, and
    returns the function. Then `settle` gives up privileges. The child is killed after the timeout, and as soon as
    it has said more than `limit` bytes; what is beyond is cut off. Should it raise, the log has `broken` with the
    traceback. It has no descriptor of this process but standard input, output and error, and those that are `kept`.
    The result is untrusted.
    """
    pid, reading = start_helper(prepare, settle, broken, kept)
    try:
        return _heard(reading, seconds, limit)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def start_helper(
    prepare: Callable[[], Task], settle: Confine, broken: str, kept: Collection[int] = ()
) -> tuple[int, int]:
    """Start such a child; its process id, and the pipe from which the caller reads what it says.

    The caller kills it after its time, or when it says too much, and waits for it; see `run_helper`.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _run(prepare, settle, writing, broken, kept)
    os.close(writing)
    return pid, reading


def _heard(reading: int, seconds: float, limit: int) -> bytes:
    end = time.monotonic() + seconds
    text = bytearray()
    waiting = select.poll()  # select(2) knows no descriptor beyond 1023
    waiting.register(reading, select.POLLIN)
    while (left := end - time.monotonic()) > 0 and waiting.poll(left * 1000):
        block = os.read(reading, 1 << 16)
        if not block:
            break
        text += block
        if len(text) > limit:
            log.error("a helper process wrote more than %d bytes and was killed", limit)
            break
    return bytes(text[:limit])


def _run(prepare: Callable[[], Task], settle: Confine, writing: int, broken: str, kept: Collection[int]) -> None:
    """The child; never returns."""

    def write(text: bytes) -> None:
        while text:
            text = text[os.write(writing, text) :]

    try:
        crash_report.enable("helper")
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        descriptors.close_all_but({writing, *kept})
        task = prepare()
        settle()
        kernel.end_with_parent()
        task(write)
    except BaseException:
        log.exception("%s", broken)
    finally:
        os._exit(0)
