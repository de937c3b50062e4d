"""When names are asked for, and what of the answers is told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.discovery import Found, Member, Question
from gateway.config.model import Resolver
from gateway.config.snapshot import Snapshot
from gateway.control import discovery
from gateway.control.discovery import Discovery
from gateway.control.lookup import Answer, LookupFailedError
from tests.control.sites import snapshot
from tests.support.waiting import soon

ONE = (Member("10.0.0.1", 80, "app.internal"),)
TWO = (Member("10.0.0.2", 80, "app.internal"),)
NONE: tuple[Member, ...] = ()


class Names:
    """In place of a name service: answers, and the time between, are handed out one by one."""

    def __init__(self) -> None:
        self.script: dict[str, asyncio.Queue[Answer | Exception]] = {}
        self.slept: list[float] = []
        self.asked: list[tuple[str, Resolver]] = []
        self.told: list[Found] = []

    def say(self, host: str, *answers: Answer | Exception) -> None:
        queue = self.script.setdefault(host, asyncio.Queue())
        for answer in answers:
            queue.put_nowait(answer)

    async def ask(self, question: Question, resolver: Resolver) -> Answer:
        host = question.address.host
        self.asked.append((host, resolver))
        answer = await self.script.setdefault(host, asyncio.Queue()).get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def hear(self, found: Found) -> None:
        self.told.append(found)

    def members(self) -> list[tuple[Member, ...]]:
        return [members for found in self.told for members in found.values()]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    monkeypatch.setattr(discovery, "TOGETHER", 0.0)
    return Names()


@pytest.fixture
async def running(names: Names) -> AsyncIterator[Discovery]:
    running = Discovery(names.hear, names.ask, names.sleep)
    yield running
    await running.close()
    assert len(asyncio.all_tasks()) == 1


def site(directory: Path, *hosts: str, **more: Any) -> Snapshot:
    """Services, because there is one question for each."""
    return snapshot(directory, {"app": {"servers": ["127.0.0.1:1", *(f"dns:_{host}" for host in hosts)]}}, **more)


async def test_asked_again_when_the_ttl_is_over_and_told_when_it_changes(
    tmp_path: Path, names: Names, running: Discovery
) -> None:
    await running.apply(site(tmp_path, "a"))
    names.say("_a", Answer(ONE, 30), Answer(ONE, 0), Answer(TWO, 86400), Answer(ONE, 5))
    await soon(lambda: len(names.slept) == 4, "four answers")
    await soon(lambda: names.members()[-1:] == [ONE], "the last")
    assert names.slept == [30, 1, 60, 5]
    assert all(len(found) == 1 for found in names.told)


async def test_failures_change_nothing_and_are_said_once(
    tmp_path: Path, names: Names, running: Discovery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    failures = [LookupFailedError("no answer in time")] * 6
    await running.apply(site(tmp_path, "a"))
    names.say("_a", Answer(ONE, 30), *failures, Answer(ONE, 30), LookupFailedError("oh"))
    await soon(lambda: len(names.slept) == 9, "nine answers")
    assert names.members() == [ONE]
    assert names.slept == [30, 1, 2, 4, 8, 15, 15, 30, 1]
    assert caplog.messages == [
        "SRV of _a: no answer in time; keeping the previous servers",
        "SRV of _a: name resolution works again",
        "SRV of _a: oh; keeping the previous servers",
    ]


async def test_an_empty_answer_counts_when_it_is_the_third_in_a_row(
    tmp_path: Path, names: Names, running: Discovery
) -> None:
    empty = Answer(NONE, 300)
    await running.apply(site(tmp_path, "a"))
    names.say("_a", Answer(ONE, 30), empty, empty, Answer(ONE, 30), empty, empty)
    await soon(lambda: len(names.slept) == 6, "six answers")
    assert names.members() == [ONE]
    names.say("_a", *[empty] * 4)
    await soon(lambda: len(names.slept) == 10, "ten answers")
    await soon(lambda: names.members() == [ONE, NONE], "gone")
    assert names.slept[-6:] == [2, 4, 6, 8, 10, 10]


async def test_news_that_come_together_are_told_together(
    tmp_path: Path, names: Names, running: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "TOGETHER", 0.05)
    names.say("_a", Answer(ONE, 30), Answer(TWO, 30))
    names.say("_b", Answer(ONE, 30))
    snap = site(tmp_path, "a", "b")
    await running.apply(snap)
    await soon(lambda: names.told, "news")
    a, b = sorted(snap.questions)
    assert names.told == [{a: TWO, b: ONE}]


async def test_a_reload_goes_on_with_what_stays(tmp_path: Path, names: Names, running: Discovery) -> None:
    first = site(tmp_path, "a", "b")
    await running.apply(first)
    await soon(lambda: len(names.asked) == 2, "both asked")
    await running.apply(site(tmp_path, "b", "c", before=first))
    await soon(lambda: len(names.asked) == 3, "the new one asked")
    assert sorted(host for host, _ in names.asked) == ["_a", "_b", "_c"]
    names.say("_a", Answer(ONE, 30))
    names.say("_b", Answer(TWO, 30))
    await soon(lambda: names.told, "news")
    assert names.members() == [TWO]


async def test_another_resolver_is_asked_from_now_on(tmp_path: Path, names: Names, running: Discovery) -> None:
    await running.apply(site(tmp_path, "a"))
    await running.apply(site(tmp_path, "a", resolver={"timeout": "7s"}))
    await soon(lambda: [resolver.timeout for _, resolver in names.asked][-1:] == [7.0], "asked anew")


async def test_questions_wait_for_each_other(
    tmp_path: Path, names: Names, running: Discovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_open", asyncio.Semaphore(2))
    await running.apply(site(tmp_path, "a", "b", "c"))
    await soon(lambda: len(names.asked) == 2, "two asked")
    names.say("_a", Answer(ONE, 30))
    await soon(lambda: len(names.asked) == 3, "the third asked")
