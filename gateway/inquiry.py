"""Asks the name service once, before a site is worked by: the servers of dns: entries as they are now."""

import asyncio
import json
from collections.abc import Callable, Collection
from typing import Final

from gateway.config.discovery import Found, Member, Question
from gateway.config.model import Resolver
from gateway.errand import Say, errand

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

    def ask(say: Say) -> None:
        # Here, so that the supervisor does without these libraries; and before they may be out of reach.
        from gateway.control.lookup import LookupFailedError, look_up  # noqa: PLC0415

        settle()

        async def ask_one(index: int, question: Question) -> None:
            try:
                answer = await look_up(question, resolver)
            except LookupFailedError:
                return  # control asks again, and says so
            say(json.dumps([index, [_fields(member) for member in answer.members]]).encode() + b"\n")

        async def ask_all() -> None:
            await asyncio.wait(
                [asyncio.create_task(ask_one(index, question)) for index, question in enumerate(ordered)],
                timeout=DEADLINE,
            )

        asyncio.run(ask_all())

    text = errand(ask, DEADLINE + GRACE, "asking the name service failed")
    answers = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]
    return {ordered[index]: tuple(Member(*fields) for fields in members) for index, members in answers}


def _fields(member: Member) -> list[object]:
    return [member.ip, member.port, member.host, member.weight, member.backup]
