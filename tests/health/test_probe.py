import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.config.model import Check
from gateway.health import probe
from gateway.health.probe import MAX_BODY_BYTES, Probe, Target
from gateway.health.result import Outcome, Result
from tests.health.serving import Serve, serving

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall's OK"
HTTP = {"http": "/healthz?full=1"}


class Origin:
    """Answers every connection alike and remembers the heads."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.heads: list[bytes] = []
        self._stack = stack

    async def tcp(self, response: bytes | None, host: str = "127.0.0.1") -> Target:
        server = await self._stack.enter_async_context(serving(self._serve(response), host))
        address = server.sockets[0].getsockname()[:2]
        return Target("app/a", 0, address, f"{host}:{address[1]}")

    async def unix(self, response: bytes, path: Path) -> Target:
        await self._stack.enter_async_context(serving(self._serve(response), path))
        return Target("app/a", 0, str(path), "localhost")

    def _serve(self, response: bytes | None) -> Serve:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.read(4096)
            if head:
                self.heads.append(head)
            if response is None:
                await reader.read()  # says nothing until the client gives up
            else:
                writer.write(response)

        return serve


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with AsyncExitStack() as stack:
        yield Origin(stack)


async def run(target: Target, **check: object) -> Result:
    return await Probe().check(target, Check.model_validate(check))


@pytest.mark.parametrize(
    "response, expect, outcome",
    [
        (OK, {}, Outcome.OK),
        (OK, {"body": "all's"}, Outcome.OK),
        (OK, {"body": "~^a.*OK$"}, Outcome.OK),
        (OK, {"body": "~^OK"}, Outcome.HTTP_BODY),
        (OK, {"body": "ok"}, Outcome.HTTP_BODY),
        (OK, {"status": [204, "300-399"]}, Outcome.HTTP_STATUS),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", {}, Outcome.HTTP_STATUS),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", {"status": "500-599"}, Outcome.OK),
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", {}, Outcome.HTTP_STATUS),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort", {"body": "short"}, Outcome.HTTP_CLOSED),
        (b"", {}, Outcome.HTTP_CLOSED),
        (b"SSH-2.0-OpenSSH_9.2\r\n", {}, Outcome.HTTP_INVALID),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, {}, Outcome.HTTP_INVALID),
    ],
)
async def test_http(origin: Origin, response: bytes, expect: dict[str, object], outcome: Outcome) -> None:
    result = await run(await origin.tcp(response), **HTTP, expect=expect)
    assert result.outcome is outcome
    assert len(origin.heads) == 1


async def test_what_is_asked(origin: Origin) -> None:
    target = await origin.tcp(OK)
    await run(target, **HTTP)
    await run(target, **HTTP, headers={"host": "app.example.com", "X-Check": "1"})
    own, given = origin.heads
    assert own.startswith(b"GET /healthz?full=1 HTTP/1.1\r\n")
    assert f"Host: {target.host}\r\n".encode() in own
    assert b"accept-encoding" not in own.lower()
    assert given.lower().count(b"host:") == 1
    assert b"host: app.example.com\r\n" in given.lower()
    assert b"X-Check: 1\r\n" in given


async def test_every_check_connects_anew() -> None:
    connections = 0

    async def keep_alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.read(4096):
            writer.write(OK)

    async with serving(keep_alive) as server:
        target = Target("app/a", 0, server.sockets[0].getsockname(), "a")
        for _ in range(3):
            assert (await Probe().check(target, Check.model_validate({**HTTP, "expect": {"body": "OK"}}))).good
    assert connections == 3


async def test_a_body_without_end_is_looked_at_as_far_as_its_bound(origin: Origin) -> None:
    body = b"x" * MAX_BODY_BYTES + b"OK"
    target = await origin.tcp(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert (await run(target, **HTTP, expect={"body": "OK"})).outcome is Outcome.HTTP_BODY
    assert (await run(target, **HTTP, expect={"body": "xxx"})).good


async def test_unix_sockets(origin: Origin, tmp_path: Path) -> None:
    target = await origin.unix(OK, tmp_path / "app.sock")
    assert (await run(target, **HTTP, expect={"body": "OK"})).good
    assert b"Host: localhost\r\n" in origin.heads[0]
    assert (await run(target, tcp=True)).good
    nowhere = Target("app/a", 0, str(tmp_path / "none.sock"), "localhost")
    assert (await run(nowhere, **HTTP)).outcome is Outcome.TCP_CONNECT_FAILED
    assert (await run(nowhere, tcp=True)).outcome is Outcome.TCP_CONNECT_FAILED


async def test_ipv6(origin: Origin) -> None:
    assert (await run(await origin.tcp(OK, "::1"), **HTTP)).good


async def test_no_process_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    target = Target("app/a", 0, address, "a")
    for check in (HTTP, {"tcp": True}):
        result = await run(target, **check)
        assert result.outcome is Outcome.TCP_CONNECT_REFUSED
        assert "refused" in result.detail.lower() or "connect" in result.detail.lower()


async def test_a_connection_that_is_never_accepted_times_out() -> None:
    # Linux drops a SYN when the accept queue is full.
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        target = Target("app/a", 0, server.getsockname(), "a")
        with socket.create_connection(server.getsockname()):
            for check in (HTTP, {"tcp": True}):
                result = await run(target, **check, timeout="50ms")
                assert result.outcome is Outcome.TCP_CONNECT_TIMEOUT


async def test_an_answer_that_never_comes_times_out(origin: Origin) -> None:
    result = await run(await origin.tcp(None), **HTTP, timeout="500ms")
    assert result.outcome is Outcome.HTTP_TIMEOUT
    assert result.seconds >= 0.49  # a loop's clock has steps of a millisecond


async def test_an_answer_that_breaks_off_is_a_closed_connection_if_its_body_counts(origin: Origin) -> None:
    target = await origin.tcp(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nx")
    assert (await run(target, **HTTP)).good  # the status is enough
    assert (await run(target, **HTTP, expect={"body": "x"})).outcome is Outcome.HTTP_CLOSED


async def test_a_reset_is_a_closed_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reset() -> None:
            connection, _ = server.accept()
            connection.recv(1)  # unread bytes make the close a reset
            connection.close()

        thread = threading.Thread(target=reset)
        thread.start()
        result = await run(Target("app/a", 0, server.getsockname(), "a"), **HTTP)
        thread.join()
    assert result.outcome is Outcome.HTTP_CLOSED


async def test_tcp_says_nothing(origin: Origin) -> None:
    result = await run(await origin.tcp(OK), tcp=True)
    assert result.good
    assert origin.heads == []


async def test_a_check_that_cannot_be_made_is_a_result_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setitem(probe._CHECKS, "tcp", broken)
    result = await run(Target("app/a", 0, ("127.0.0.1", 1), "a"), tcp=True)
    assert (result.outcome, result.detail) == (Outcome.CHECK_FAILED, "a bug")
    assert caplog.messages == ["a health check failed with an internal error"]


async def test_a_long_field_is_taken_as_traffic_takes_it(origin: Origin) -> None:
    """A Content-Security-Policy, or a token in a cookie: more than the 8190 bytes that some clients take."""
    for size in (9_000, 60_000):
        target = await origin.tcp(OK.replace(b"\r\n\r\n", b"\r\nX-Long: " + b"x" * size + b"\r\n\r\n"))
        assert (await run(target, http="/")).outcome is Outcome.OK
    target = await origin.tcp(OK.replace(b"\r\n\r\n", b"\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n"))
    assert (await run(target, http="/")).outcome is Outcome.HTTP_INVALID
