"""Asks the name service once, before a site is worked by: the servers of dns: entries as they are now."""

import asyncio
import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from gateway.config.discovery import Found, Member, Question
from gateway.config.model import Resolver

log = logging.getLogger(__name__)

DEADLINE: Final = 2.0
"""Seconds for all questions; what is not answered by then, control finds out."""
GRACE: Final = 0.5
"""Seconds more, for starting and for handing over."""


def inquire(questions: Collection[Question], resolver: Resolver, settle: Callable[[], None]) -> Found:
    """The answers to `questions` that come in time. Blocks for DEADLINE and GRACE at most.

    A process of its own asks, because the supervisor reads no byte from the network; `settle` gives up its
    privileges.
    """
    if not questions:
        return {}
    ordered = sorted(questions)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _ask(ordered, resolver, settle, writing)
    os.close(writing)
    try:
        answers = _answers(reading)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return {ordered[index]: tuple(Member(*fields) for fields in members) for index, members in answers}


def _answers(reading: int) -> list[tuple[int, list[list[Any]]]]:
    """What the other process has written by the time it ends."""
    end = time.monotonic() + DEADLINE + GRACE
    text = b""
    while (left := end - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        block = os.read(reading, 1 << 16)
        if not block:
            break
        text += block
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]


def _ask(questions: list[Question], resolver: Resolver, settle: Callable[[], None], writing: int) -> None:
    """The other process; never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        # Here, so that the supervisor does without these libraries; and before they may be out of reach.
        from gateway.control.lookup import LookupFailedError, look_up  # noqa: PLC0415

        settle()

        async def ask_one(index: int, question: Question) -> None:
            try:
                answer = await look_up(question, resolver)
            except LookupFailedError:
                return  # control asks again, and says so
            line = json.dumps([index, [_fields(member) for member in answer.members]])
            os.write(writing, line.encode() + b"\n")

        async def ask_all() -> None:
            await asyncio.wait(
                [asyncio.create_task(ask_one(index, question)) for index, question in enumerate(questions)],
                timeout=DEADLINE,
            )

        asyncio.run(ask_all())
    except BaseException:
        log.exception("asking the name service failed")
    finally:
        os._exit(0)


def _fields(member: Member) -> list[object]:
    return [member.ip, member.port, member.host, member.weight, member.backup]
