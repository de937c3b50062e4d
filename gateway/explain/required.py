"""Tests that must pass before a site is worked by, in a process of their own: the rules of the file run there."""

import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from gateway.config import ConfigError, Problem
from gateway.config.loader import Loaded

log = logging.getLogger(__name__)

DEADLINE: Final = 20.0
"""Seconds for all tests."""


def require(loaded: Loaded, settle: Callable[[], None]) -> None:
    """Run the tests of a site that says tests_required; `settle` gives up privileges. Raises ConfigError."""
    if not loaded.site.tests_required:
        return
    reading, writing = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _work(loaded, settle, writing)
    os.close(writing)
    try:
        found = _answer(reading)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if found is None:
        raise ConfigError([Problem(loaded.path, 1, 1, f"its tests did not end within {DEADLINE:g} s, or broke off")])
    if found:
        raise ConfigError([Problem(loaded.path, line, column, message) for line, column, message in found])


def _answer(reading: int) -> list[tuple[int, int, str]] | None:
    """What the other process has found wrong; None if it has not said."""
    end = time.monotonic() + DEADLINE
    text = b""
    while (left := end - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        block = os.read(reading, 1 << 16)
        if not block:
            break
        text += block
    try:
        found: list[tuple[int, int, str]] = json.loads(text)
    except ValueError:
        return None
    return found


def _work(loaded: Loaded, settle: Callable[[], None], writing: int) -> None:
    """The other process; never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        # Here, so that the supervisor does without what only workers need.
        from gateway.explain import trial  # noqa: PLC0415

        settle()
        failed = [
            (*verdict.place, f"tests[{verdict.index}] fails: {verdict.summary}")
            for verdict in trial.run(loaded)
            if verdict.differences
        ]
        text = json.dumps(failed).encode()
        while text:
            text = text[os.write(writing, text) :]
    except BaseException:
        log.exception("the tests of the site file broke off")
    finally:
        os._exit(0)
