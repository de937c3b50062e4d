"""Asks the name service once, before a site is worked by, in a child process that is not root.

The process that loads a site file reads no byte from the network.
"""

import asyncio
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

from gateway.config import Site, discovery, resolve
from gateway.config.discovery import Found, Member, Question
from gateway.hardening import account, roles
from gateway.hardening.account import Account
from gateway.hardening.confinement import Bounds, settle
from gateway.process.helper import Confine, Task, Write, run_helper
from gateway.system import plain_json

DEADLINE: Final = 2.0
"""Seconds for all questions; what is not answered by then, control finds out."""
GRACE: Final = 3.0
"""Seconds more, for a child that has to start on a busy machine; it ends by itself when its questions are answered."""
LIMIT: Final = 8 * 1024 * 1024
"""Bytes of all answers."""
LONGEST_REASON: Final = 200
"""Characters of why a name has no address."""


def find_servers(questions: Collection[Question], site: Site, who: Account | None) -> Found:
    """The answers to `questions` that come in time, asked for as `who` of the site's resolver.

    Blocks for DEADLINE and GRACE at most.
    """
    if not questions:
        return {}

    def prepare() -> Task:
        # Here, so that the supervisor does without these libraries.
        from gateway.control.lookup import LookupFailedError, look_up  # noqa: PLC0415

        async def ask_one(write: Write, question: Question) -> None:
            try:
                answer = await look_up(question, site.resolver)
            except LookupFailedError:
                return  # control asks again, and says so
            write(json.dumps(discovery.rows({question: answer.members})).encode() + b"\n")

        async def ask_all(write: Write) -> None:
            tasks = [asyncio.create_task(ask_one(write, question)) for question in sorted(questions)]
            await asyncio.wait(tasks, timeout=DEADLINE)

        return lambda write: asyncio.run(ask_all(write))

    text = run_helper(prepare, _settled(site, who), DEADLINE + GRACE, LIMIT, "asking the name service failed")
    found: dict[Question, tuple[Member, ...]] = {}
    for said in _lines(text):
        with suppress(ValueError):
            found.update(discovery.found(said))
    return {question: members for question, members in found.items() if question in questions}


def addresses(site: Site, hosts: Collection[str]) -> Mapping[str, str | OSError]:
    """What `gateway.config.resolve.resolve` says of `hosts`, asked for as the site's user. Raises NoAccount."""
    if not hosts:
        return {}
    ordered = sorted(hosts)
    who = account.of(site.user)

    def prepare() -> Task:
        import encodings.idna  # noqa: F401, PLC0415 - names are asked for by it

        return ask

    def ask(write: Write) -> None:
        for host, answer in resolve.resolve(ordered).items():
            why = (answer.strerror or str(answer)) if isinstance(answer, OSError) else ""
            said = [host, "" if why else answer, why[:LONGEST_REASON]]
            write(json.dumps(said).encode() + b"\n")

    text = run_helper(prepare, _settled(site, who), resolve.DEADLINE + GRACE, LIMIT, "asking for addresses failed")
    found: dict[str, str | OSError] = dict.fromkeys(ordered, TimeoutError(None, "no answer in time"))
    for said in _lines(text):
        match said:
            case [str(host), "", str(why)] if host in found and why.isprintable() and len(why) <= LONGEST_REASON:
                found[host] = OSError(None, why)
            case [str(host), str(ip), ""] if host in found:
                with suppress(ValueError):
                    found[host] = ip_address(ip).compressed
    return found


def _settled(site: Site, who: Account | None) -> Confine:
    return partial(settle, who, roles.LOOKUP, Bounds.of(site))


def _lines(text: bytes) -> list[Any]:
    """What each whole line says; lines that are not JSON say nothing."""
    found = []
    for line in text.splitlines(keepends=True):
        if line.endswith(b"\n"):
            try:
                found.append(plain_json.parse(line))
            except ValueError:
                continue
    return found
