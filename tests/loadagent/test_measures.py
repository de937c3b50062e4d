import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest

from loadagent import measures
from loadagent.measures import Measure, MeasureError, get_url, parse_number, run_command
from tests.health.serving import serving

Serve = Callable[[bytes], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Answer every connection with the same bytes; returns the URL."""
    async with AsyncExitStack() as stack:

        async def start(response: bytes) -> str:
            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(response)

            server = await stack.enter_async_context(serving(answer))
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/load"

        yield start


@pytest.mark.parametrize(
    "output, number",
    [(b"12\n", 12.0), (b" 0.5 ", 0.5), (b'{"load": 73, "other": []}', 73.0), (b"1e3", 1000.0)],
)
def test_a_number_is_plain_or_a_member_of_an_object(output: bytes, number: float) -> None:
    assert parse_number(output) == number


@pytest.mark.parametrize(
    "output",
    [b"", b"much", b"-1", b"nan", b"inf", b"{}", b'{"load": null}', b"{", b'{"load":' + b"[" * 4000, b"\xff"],
)
def test_anything_else_is_no_number(output: bytes) -> None:
    with pytest.raises(MeasureError):
        parse_number(output)


async def test_a_command_prints_the_number() -> None:
    assert await run_command("echo '42'") == 42.0


async def test_a_command_has_no_shell() -> None:
    with pytest.raises(MeasureError, match="is not a number"):
        await run_command("echo 1 ; echo 2")


async def test_a_command_that_fails_gives_no_number() -> None:
    with pytest.raises(MeasureError, match="status 1"):
        await run_command("false")
    with pytest.raises(FileNotFoundError):
        await run_command("/nowhere/no-such-program")


async def test_a_command_that_says_too_much_is_killed() -> None:
    with pytest.raises(MeasureError, match="longer than 4096 bytes"):
        await run_command("yes")


async def test_a_command_that_hangs_is_killed_with_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "TIMEOUT", 0.5)
    # A pipe that both programs hold: its end of file comes when both are dead.
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # noqa: FBT003
    spawn = partial(asyncio.create_subprocess_exec, close_fds=False)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", spawn)
    measure = Measure("command", partial(run_command, "sh -c 'sleep 60 & sleep 60'"), every=1.0)
    await measure.once()
    os.close(writing)
    assert measure.value is None
    async with asyncio.timeout(20):
        assert await asyncio.to_thread(os.read, reading, 1) == b""
    os.close(reading)


async def test_a_daemon_that_a_command_leaves_behind_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "TIMEOUT", 0.3)
    measure = Measure("command", partial(run_command, "sh -c 'setsid sleep 20 & sleep 60'"), every=1.0)
    async with asyncio.timeout(15):
        await measure.once()
    assert measure.value is None


async def test_a_url_answers_the_number(serve: Serve) -> None:
    url = await serve(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"load": 80}')
    assert await get_url(url) == 80.0


@pytest.mark.parametrize(
    "response, complaint",
    [
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 1\r\n\r\n1", "status 500"),
        (b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"1" * 5000, "longer than 4096 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", "not a number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1", "closed in the middle of the response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "Expected HTTP/"),
    ],
)
async def test_a_url_without_a_number(serve: Serve, response: bytes, complaint: str) -> None:
    url = await serve(response)
    with pytest.raises(MeasureError, match=complaint):
        await get_url(url)


async def test_a_failing_measure_is_forgotten_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[float | Exception] = [
        3.0,
        MeasureError("no luck"),
        MeasureError("gone"),
        OSError("gone"),
        4.0,
    ]

    async def take() -> float:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    measure = Measure("url", take, every=1.0)
    values = []
    with caplog.at_level(logging.INFO):
        while answers:
            await measure.once()
            values.append(measure.value)
    assert values == [3.0, None, None, None, 4.0]
    assert caplog.messages == ["metric url is left out of the score: no luck"]


async def test_a_measure_that_takes_too_long_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(measures, "TIMEOUT", 0.01)

    async def take() -> float:
        await asyncio.Event().wait()
        return 0.0

    await Measure("url", take, every=1.0).once()
    assert caplog.messages == ["metric url is left out of the score: no answer in 0.01 s"]
