"""A process of its own for one thing that the supervisor must not do itself: read from others, or run their code."""

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable

from gateway import last_words

log = logging.getLogger(__name__)

Say = Callable[[bytes], None]


def errand(deed: Callable[[Say], None], seconds: float, broken: str) -> bytes:
    """Run `deed` in a child, and return what it has said by its end, or within so many seconds; then it is killed.

    It should give up privileges first; should it raise, the log has `broken` with the traceback.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _run(deed, writing, broken)
    os.close(writing)
    try:
        return _heard(reading, seconds)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _heard(reading: int, seconds: float) -> bytes:
    end = time.monotonic() + seconds
    text = b""
    while (left := end - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        block = os.read(reading, 1 << 16)
        if not block:
            break
        text += block
    return text


def _run(deed: Callable[[Say], None], writing: int, broken: str) -> None:
    """The child; never returns."""

    def say(text: bytes) -> None:
        while text:
            text = text[os.write(writing, text) :]

    try:
        last_words.enable("errand")
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        deed(say)
    except BaseException:
        log.exception("%s", broken)
    finally:
        os._exit(0)
