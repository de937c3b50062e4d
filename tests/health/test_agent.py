import asyncio
import socket

import pytest

from gateway.health.agent import MAX_LINE, BadLine, Line, Question, ask, parse
from gateway.health.result import Outcome
from loadagent.report import State
from tests.health.serving import Serve, serving


@pytest.mark.parametrize(
    "data, line",
    [
        (b"75%\n", Line(share=0.75)),
        (b"0%", Line(share=0.0)),
        (b"200%\r\nmaint\n", Line(share=2.0)),  # the first line counts
        (b"up\n", Line(up=True)),
        (b"down\n", Line(up=False)),
        (b"stopped\n", Line(up=False)),
        (b"fail # disk full\x1b[31m\n", Line(up=False, reason="disk full\\x1b[31m")),
        (b"FAILED\n", Line(up=False)),
        (b"ready\n", Line(admin=State.READY)),
        (b"drain\n", Line(admin=State.DRAIN)),
        (b"maint\n", Line(admin=State.MAINTENANCE)),
        (b"maxconn:30\n", Line(limit=30)),
        (b"up ready 75% maxconn:30\n", Line(State.READY, up=True, share=0.75, limit=30)),
        (b"\t50%,drain,  up\n", Line(State.DRAIN, up=True, share=0.5)),
        (b"ready drain 10% 20%\n", Line(admin=State.DRAIN, share=0.2)),  # the last one counts
        (b"shiny 60% weight:7\n", Line(share=0.6)),
    ],
)
def test_lines(data: bytes, line: Line) -> None:
    assert parse(data) == line


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\nup\n", b"HTTP/1.1 400 Bad Request\r\n", b"75", b"-5%", b"99999%", b"# up", b"\xff\0"]
)
def test_what_is_no_agents_line(data: bytes) -> None:
    with pytest.raises(BadLine):
        parse(data)


def says(*pieces: bytes, hang: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if hang:
            await reader.read()

    return serve


@pytest.mark.parametrize(
    "serve, outcome, line",
    [
        (says(b"up ", b"ready 4", b"0%\n", hang=True), Outcome.OK, Line(State.READY, up=True, share=0.4)),
        (says(b"drain"), Outcome.OK, Line(admin=State.DRAIN)),  # closes without a line break
        (says(), Outcome.AGENT_INVALID, None),
        (says(b"hello\n"), Outcome.AGENT_INVALID, None),
        (says(b"x" * MAX_LINE * 100 + b" up\n"), Outcome.AGENT_INVALID, None),  # not read to its end
        (says(b"up", hang=True), Outcome.AGENT_TIMEOUT, None),
    ],
)
async def test_answers(serve: Serve, outcome: Outcome, line: Line | None) -> None:
    async with serving(serve) as server:
        timeout = 0.5 if outcome is Outcome.AGENT_TIMEOUT else 10
        result, said = await ask(Question(server.sockets[0].getsockname(), b"", timeout))
    assert (result.outcome, said) == (outcome, line)
    assert 0 < result.seconds < 60


async def test_who_is_meant_may_be_said_first() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"10%\n" if await reader.readline() == b"app1\n" else b"20%\n")

    async with serving(serve) as server:
        for send, share in ((b"app1\n", 0.1), (b"app2\n", 0.2)):
            result, said = await ask(Question(server.sockets[0].getsockname(), send, 10))
            assert (result.outcome, said) == (Outcome.OK, Line(share=share))


async def test_no_process_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    result, said = await ask(Question(address, b"", 10))
    assert (result.outcome, said) == (Outcome.TCP_CONNECT_REFUSED, None)
