"""Inquiries of operators that come over the admin listener, each answered by a short-lived process beside the others.

Such a process has the configuration that is in use, as it was forked from the supervisor, gives up its privileges, and
may then do what a worker may (the role "trial of rules"). The supervisor waits for none of them. Another such process
reads a site file before it is applied; it may read what the supervisor may.
"""

import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.board import Board
from gateway.config.snapshot import Snapshot
from gateway.hardening import roles
from gateway.hardening.confinement import Bounds, settle
from gateway.process.helper import Confine, Task, Write, start_helper
from gateway.supervisor import past, posted_site
from gateway.supervisor.configuration import Configuration
from gateway.supervisor.posted_site import PostedSite
from gateway.system import plain_json

INQUIRIES: Final = ("explain", "tests", "site", "check")
"""Words of gateway/explain/inquiry.py."""
MOST: Final = 4
"""Processes at once."""
SECONDS: Final = 20.0
"""For an answer."""
LIMIT: Final = 4 * 1024 * 1024
"""Bytes of an answer."""
BUSY: Final = "too many inquiries are being answered: try again in a few seconds"
READ: Final = 1 << 16
NICE: Final = 10
"""How far requests of clients go before it (nice(2))."""

Send = Callable[[Mapping[str, Any]], None]


@dataclass(eq=False, slots=True)
class Inquiry:
    """One whose answer is due: `send` takes it. The process is known by a descriptor (pidfd_open(2)), not by number."""

    process: int
    reading: int
    deadline: float
    send: Send
    said: bytearray = field(default_factory=bytearray)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self.reading


class Inquiries:
    """Those that are being answered."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._under_way: set[Inquiry] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def deadline(self) -> float:
        """When `keep_time` has something to do next, time.monotonic(); infinite if never."""
        return min((one.deadline for one in self._under_way), default=float("inf"))

    def ask(self, command: str, now: Configuration, board: Board, send: Send) -> None:
        """Let a process answer a command, a word of INQUIRIES and its argument, by the configuration in use."""
        if len(self._under_way) >= MOST:
            send({"error": BUSY})
            return
        word, _, argument = command.partition(" ")
        prepare = partial(_prepare, word, argument, now, board, now.snapshot)
        confine = partial(settle, now.account, roles.RULES, Bounds.of(now.loaded.site))
        self._start(prepare, confine, f"{word} of an operator", send)

    def look_back(self, command: str, path: Path, in_force: int | None, send: Send) -> None:
        """Let a process answer one of the words of past.py about the site file at a path, and its version in force."""
        if len(self._under_way) >= MOST:
            send({"error": BUSY})
            return
        word, _, argument = command.partition(" ")
        prepare = partial(_prepare_to_look_back, word, argument, path, in_force)
        self._start(prepare, lambda: None, f"{word} of an operator", send)

    def read(self, posted: PostedSite, send: Send) -> None:
        """Let a process read a site file that was posted, with the rights that the supervisor needs for it."""
        if len(self._under_way) >= MOST:
            send({"error": BUSY})
            return
        self._start(partial(_prepare_to_read, posted), lambda: None, "reading a posted site file", send)

    def _start(self, prepare: Callable[[], Task], confine: Confine, what: str, send: Send) -> None:
        pid, reading = start_helper(prepare, confine, f"{what} broke off")
        os.set_blocking(reading, False)
        inquiry = Inquiry(os.pidfd_open(pid), reading, time.monotonic() + SECONDS, send)
        self._under_way.add(inquiry)
        self._selector.register(inquiry, selectors.EVENT_READ, inquiry)

    def hear(self, inquiry: Inquiry) -> None:
        """Read from a process; pass on the answer when it is complete."""
        try:
            part = os.read(inquiry.reading, READ)
        except BlockingIOError:
            return
        inquiry.said += part
        if not part:
            self._end(inquiry, _answer(bytes(inquiry.said)))
        elif len(inquiry.said) > LIMIT:
            self._end(inquiry, {"error": f"the answer is longer than {LIMIT} bytes"})

    def keep_time(self, now: float) -> None:
        """End those that take too long."""
        for inquiry in [one for one in self._under_way if one.deadline <= now]:
            self._end(inquiry, {"error": f"no answer within {SECONDS:g} s"})

    def _end(self, inquiry: Inquiry, answer: Mapping[str, Any]) -> None:
        self._selector.unregister(inquiry)
        self._under_way.discard(inquiry)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(inquiry.process, signal.SIGKILL)
        for descriptor in (inquiry.process, inquiry.reading):
            os.close(descriptor)
        inquiry.send(answer)

    def forget(self) -> None:
        """Close everything in a process that was forked."""
        for inquiry in self._under_way:
            for descriptor in (inquiry.process, inquiry.reading):
                os.close(descriptor)
        self._under_way.clear()


def _prepare(word: str, argument: str, now: Configuration, board: Board, snapshot: Snapshot) -> Task:
    # In the new process: the supervisor does without what only this needs.
    os.nice(NICE)
    from gateway.explain.inquiry import Present, answer  # noqa: PLC0415

    def work(write: Write) -> None:
        write(json.dumps(answer(word, argument, now.loaded, Present(board, snapshot))).encode())

    return work


def _prepare_to_read(posted: PostedSite) -> Task:
    os.nice(NICE)
    return partial(posted_site.read, posted.content.decode("utf-8-sig"), posted.path)


def _prepare_to_look_back(word: str, argument: str, path: Path, in_force: int | None) -> Task:
    os.nice(NICE)
    return lambda write: write(past.text(word, argument, path, in_force))


def _answer(said: bytes) -> dict[str, Any]:
    """What a process has said, which may be compromised: an object, or an error."""
    try:
        found = plain_json.parse(said)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"error": "the process broke off; see the gateway's log"}
