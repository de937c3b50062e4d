"""What a worker asks the process of the programs of maps: bounded, and never left without an answer."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from gateway.process.map_questions import MAX_PACKET, Answer, Asked, accept
from gateway.proxy import program_questions
from gateway.proxy.program_questions import FULL, GONE, MOST, SILENT, ProgramQuestions
from gateway.rules.question import ProgramQuestion
from tests.support.waiting import soon

Door = tuple[socket.socket, socket.socket]
QUESTION = ProgramQuestion("m", ("/bin/x",), b"key")


@pytest.fixture
def door() -> Iterator[Door]:
    inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    outside.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    with inside, outside:
        yield inside, outside


async def test_answers_come_to_those_who_asked(door: Door) -> None:
    asking = ProgramQuestions(asyncio.get_running_loop(), door[1])
    told: dict[int, bytes | str | None] = {}
    for request in range(3):
        assert asking.ask(QUESTION, b"192.0.2.1", request, lambda said, n=request: told.update({n: said})) == 0  # type: ignore[misc]
    with accept(door[0]) as programs:
        asked = [Asked.read(programs.recv(MAX_PACKET)) for _ in range(3)]
        assert [(one.command, one.key) for one in asked] == [(("/bin/x",), b"key")] * 3
        asking.forget(QUESTION, 1)
        for one, said in zip(asked, (b"a", b"b", None), strict=True):
            programs.send(b"nothing that can be read")
            programs.send(Answer(one.number, said).packet())
            programs.send(Answer(one.number, b"again").packet())
        await soon(lambda: len(told) == 2, "two answers")
        assert told == {0: b"a", 2: None}
        asking.close()


async def test_the_end_of_the_process_is_an_answer_and_the_next_one_is_asked(door: Door) -> None:
    asking = ProgramQuestions(asyncio.get_running_loop(), door[1])
    told: list[bytes | str | None] = []
    asking.ask(QUESTION, b"", 1, told.append)
    accept(door[0]).close()
    await soon(lambda: told == [GONE], "the end to be noticed")
    asking.ask(QUESTION, b"", 2, told.append)
    with accept(door[0]) as programs:
        programs.send(Answer(Asked.read(programs.recv(MAX_PACKET)).number, b"a").packet())
        await soon(lambda: told == [GONE, b"a"], "an answer")
        asking.close()


async def test_waiting_is_bounded_in_time_and_number(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_questions, "PATIENCE", 0.1)
    asking = ProgramQuestions(asyncio.get_running_loop(), door[1])
    told: list[bytes | str | None] = []
    assert [asking.ask(QUESTION, b"", request, told.append) for request in range(MOST + 1)] == [0] * MOST + [FULL]
    await soon(lambda: len(told) == MOST, "all to be told")
    assert set(told) == {SILENT}
    asking.close()


async def test_without_a_process_the_answer_is_that() -> None:
    asking = ProgramQuestions(asyncio.get_running_loop(), None)
    told: list[bytes | str | None] = []
    assert asking.ask(QUESTION, b"", 1, told.append) == 0
    assert told == []
    await soon(lambda: told == [GONE], "an answer")
