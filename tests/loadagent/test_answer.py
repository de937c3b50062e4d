import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from loadagent import answer
from loadagent.admin_state import AdminState
from loadagent.answer import MAX_HEAD_BYTES, Answer
from loadagent.door import MAX_CONNECTIONS, PER_SOURCE, Door
from loadagent.report import State
from loadagent.score import Sample

SAMPLE = Sample({"cpu": 0.25, "memory": 0.5}, {"cpu": 0.5, "memory": 1.0, "url": 100.0})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(answer, "SPEAKS_FIRST", 0.5)
    server = await asyncio.start_server(
        Answer("app1", AdminState(None, State.READY), lambda: SAMPLE), "127.0.0.1", 0, limit=MAX_HEAD_BYTES
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(port: int, request: bytes, *, end: bool = False) -> bytes:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        if end:
            writer.write_eof()
        response = await reader.read()
        writer.close()
        await writer.wait_closed()
    return response


async def test_get_load_is_json(port: int) -> None:
    head, _, body = (await ask(port, b"GET /load?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {
        "server": "app1",
        "state": "ready",
        "score": 0.5,
        "metrics": {"cpu": 0.5, "memory": 0.5},
    }


async def test_head_has_no_body(port: int) -> None:
    assert (await ask(port, b"HEAD /load HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "request_, status",
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"POST /load HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
    ],
)
async def test_other_requests(port: int, request_: bytes, status: bytes) -> None:
    assert (await ask(port, request_)).startswith(b"HTTP/1.1 " + status)


async def test_who_says_nothing_gets_the_agent_check_line(port: int) -> None:
    assert await ask(port, b"") == b"up ready 50%\n"
    assert await ask(port, b"", end=True) == b"up ready 50%\n"


async def test_a_head_without_end_is_not_answered(port: int) -> None:
    assert await ask(port, b"GET /load HTTP/1.1\r\n", end=True) == b""
    with contextlib.suppress(ConnectionResetError):  # what it had not read was thrown away
        assert await ask(port, b"GET /load HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES * 2) == b""


async def test_a_slow_head_is_given_up(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "HEAD_TIMEOUT", 0.05)
    assert await ask(port, b"GET /lo") == b""


async def test_slow_connections_do_not_shut_out_the_next_check() -> None:
    """As many as the agent has room for, from as many addresses of this machine as it takes, each sending slowly."""
    served = Answer("app1", AdminState(None, State.READY), lambda: SAMPLE)
    server = await asyncio.start_server(served, "127.0.0.1", 0, limit=MAX_HEAD_BYTES)
    port = server.sockets[0].getsockname()[1]
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        for number in range(2 * MAX_CONNECTIONS):
            source = f"127.0.1.{1 + number // PER_SOURCE}"
            _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            stack.callback(writer.close)
            writer.write(b"GET /load HTTP/1.1\r\nX:")
        assert (await ask(port, b"GET /load HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert len(served._door._inside) <= MAX_CONNECTIONS


async def test_who_is_not_allowed_is_closed_and_named(caplog: pytest.LogCaptureFixture) -> None:
    door = Door([ip_network("127.0.0.2/32")])
    server = await asyncio.start_server(
        Answer("a", AdminState(None, State.READY), lambda: SAMPLE, door), "127.0.0.1", 0
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        for _ in range(3):
            assert await ask(port, b"", end=True) == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        writer.write_eof()
        assert await reader.read() == b"up ready 50%\n"
        writer.close()
    assert caplog.messages == ["connection from 127.0.0.1 refused: it is not in the networks of `allow`"]


@pytest.mark.parametrize("request_", [b"GET /load HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"secret\r\n\r\n"])
async def test_no_answer_names_versions_or_quotes_the_request(port: int, request_: bytes) -> None:
    said = (await ask(port, request_)).lower()
    assert said
    for word in (b"server:", b"python", b"loadagent", b"secret"):
        assert word not in said


@pytest.mark.parametrize(
    "state, values, line",
    [
        (State.READY, {"cpu": 0.0}, "up ready 100%\n"),
        (State.READY, {"cpu": 7.0}, "up ready 1%\n"),
        (State.DRAIN, {"cpu": 0.1}, "up drain 90%\n"),
        (State.MAINTENANCE, {}, "up maint\n"),
    ],
)
def test_agent_check_line(state: State, values: dict[str, float], line: str) -> None:
    assert Answer("a", AdminState(None, state), lambda: Sample(values, {"cpu": 1.0})).line() == line


def test_a_load_that_is_not_known_is_null() -> None:
    document = json.loads(Answer("a", AdminState(None, State.DRAIN), lambda: Sample({}, {"cpu": 1.0})).document())
    assert document == {"server": "a", "state": "drain", "score": None, "metrics": {}}
