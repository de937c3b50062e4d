"""gRPC through the gateway, with grpcio on both sides: all kinds of calls, deadlines, cancellation, errors, reloads."""

import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from h2.errors import ErrorCodes

from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.grpc_echo import GrpcClient, GrpcEcho
from tests.support.http2_client import Http2Client
from tests.support.http2_server import Http2Server, Peer
from tests.support.lives import Log
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]

LIMIT = 10.0
CALL = (("content-type", "application/grpc"), ("te", "trailers"))
UNARY = "/test.Echo/Unary"


@pytest.fixture
def echo() -> Iterator[GrpcEcho]:
    with GrpcEcho() as server:
        yield server


def calls(*servers: GrpcEcho | Http2Server, **backend: Any) -> dict[str, Any]:
    """Return a site for gRPC."""
    description = site(servers, h2=True, **backend)
    description["frontends"][0]["http2"] = True
    return description


def failure(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Make a call that fails; return its status and message."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code(), caught.value.details() or ""


@pytest.mark.parametrize("secure", [False, True])
def test_all_kinds_of_calls(lend_gateway: Starter, authority: Authority, *, secure: bool) -> None:
    trust = authority.ca.read_bytes()
    with ExitStack() as stack:
        if secure:
            own = authority.issue("127.0.0.1", "localhost")
            keys = grpc.ssl_server_credentials([(own.key.read_bytes(), own.cert.read_bytes())])
            server = stack.enter_context(GrpcEcho(credentials=keys))
            description = calls(server, tls={"ca": str(authority.ca)})
            description["frontends"][0]["tls"] = {"certificates": [own.as_site()]}
        else:
            server = stack.enter_context(GrpcEcho())
            description = calls(server)
        gateway = lend_gateway(description)
        client = stack.enter_context(GrpcClient(gateway.port, grpc.ssl_channel_credentials(trust) if secure else None))
        answer, call = client.unary.with_call(b"question", metadata=(("x-one", "1"),), timeout=LIMIT)
        assert answer == b"question"
        assert ("x-one-first", "1") in call.initial_metadata()
        assert ("x-one", "1") in call.trailing_metadata()
        assert ("bytes-bin", b"\0\xff") in call.trailing_metadata()
        assert list(client.download(b"100", timeout=LIMIT)) == [b"%d" % i for i in range(100)]
        assert client.upload(iter([b"a" * 1000] * 50), timeout=LIMIT) == b"50 50000"
        assert list(client.chat(iter([b"a", b"b"]), timeout=LIMIT)) == [b"re: a", b"re: b"]
        assert failure(lambda: client.unary(b"fail", timeout=LIMIT)) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "not now: ü",
        )


def test_large_messages(lend_gateway: Starter, echo: GrpcEcho) -> None:
    gateway = lend_gateway(calls(echo))
    message = bytes(range(256)) * 32_768
    with GrpcClient(gateway.port) as client:
        assert client.unary(message, timeout=LIMIT) == message
        assert list(client.chat(iter([message, b"small"]), timeout=LIMIT)) == [b"re: " + message, b"re: small"]


def test_a_conversation_takes_its_time_and_outlives_a_reload(lend_gateway: Starter, echo: GrpcEcho) -> None:
    """Neither limits on how slow a body may be nor a reload end it."""
    description = calls(echo, timeouts={"response": "5s"})
    description["frontends"][0]["limits"] = {"idle_timeout": "200ms"}
    gateway = lend_gateway(description)
    words: queue.Queue[bytes | None] = queue.Queue()
    with GrpcClient(gateway.port) as client:
        answers = client.chat(iter(words.get, None), timeout=2 * LIMIT)
        for i in range(3):
            words.put(b"%d" % i)
            assert next(answers) == b"re: %d" % i
            gateway.reload({**description, "drain": f"{i + 3}s"})
        pause = client.download(b"", timeout=0.6)
        assert next(pause) == b"0"
        assert failure(lambda: next(pause))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
        words.put(b"still here")
        assert next(answers) == b"re: still here"
        words.put(None)
        assert list(answers) == []


def test_a_cancelled_call_ends_at_the_server(lend_gateway: Starter, echo: GrpcEcho) -> None:
    gateway = lend_gateway(calls(echo))
    with GrpcClient(gateway.port) as client:
        call = client.unary.future(b"hang")
        assert echo.echo.started.wait(LIMIT)
        call.cancel()
        assert echo.echo.ended.wait(LIMIT)


def hangs(peer: Peer) -> None:
    """Read, and answer nothing, whatever the deadline of a call."""
    for _ in peer.complete():
        pass


def test_the_deadline_of_a_call_ends_it_here_and_at_the_server(lend_gateway: Starter, tmp_path: Path) -> None:
    log = Log(tmp_path)
    with Http2Server(hangs) as server:
        gateway = lend_gateway({**calls(server), "access_log": log.section})
        with Http2Client(gateway.port) as client:
            stream = client.begin(UNARY, *CALL, ("grpc-timeout", "300m"), method="POST", end=False)
            answer = client.wait(stream)
        assert (answer.status, answer.header("grpc-status"), answer.body) == (200, "4", b"")
        eventually(lambda: server.calls[0].reset == ErrorCodes.CANCEL, "the call to be cancelled")
    eventually(lambda: log.entries, "the log")
    (entry,) = log.entries
    assert (entry["status"], entry["outcome"], entry["side"]) == (504, "call_timeout", "")


@pytest.mark.parametrize("sent", [b"", b"\0\0\0\0\5he"])
def test_the_deadline_after_the_head_is_said_in_trailers_unless_data_has_gone(
    lend_gateway: Starter, sent: bytes
) -> None:
    def begins(peer: Peer) -> None:
        (call,) = peer.first()
        peer.head(call, 200, ("content-type", "application/grpc"))
        if sent:
            peer.body(call, sent, end=False)
        hangs(peer)

    with Http2Server(begins) as server:
        gateway = lend_gateway(calls(server))
        with Http2Client(gateway.port) as client:
            stream = client.begin(UNARY, *CALL, ("grpc-timeout", "500m"), method="POST")
            answer = client.wait(stream)
    assert (answer.status, answer.body) == (200, sent)
    if sent:
        assert answer.reset == ErrorCodes.CANCEL
        assert not answer.trailers
    else:
        assert answer.reset is None
        assert dict(answer.trailers)["grpc-status"] == "4"


@pytest.mark.parametrize("sent", [b"", b"\0\0\0\0\1a", b"\0\0\0\0\5he"], ids=["nothing", "a message", "a part"])
def test_a_failure_after_the_head_is_said_in_trailers(lend_gateway: Starter, sent: bytes) -> None:
    def breaks_off(peer: Peer) -> None:
        (call,) = peer.first()
        peer.head(call, 200, ("content-type", "application/grpc"))
        if sent:
            peer.body(call, sent, end=False)

    with Http2Server(breaks_off) as server:
        gateway = lend_gateway(calls(server))
        with Http2Client(gateway.port) as client:
            answer = client.wait(client.begin(UNARY, *CALL, method="POST"))
            assert (answer.status, answer.body, answer.reset) == (200, sent, None)
            assert dict(answer.trailers)["grpc-status"] == "14"
        with GrpcClient(gateway.port) as caller:
            assert failure(lambda: list(caller.download(b"", timeout=LIMIT)))[0] == grpc.StatusCode.UNAVAILABLE


def test_errors_of_the_gateway_are_those_of_grpc(lend_gateway: Starter, echo: GrpcEcho, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.touch(0o600)
    users.write_text("anna:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    description = calls(echo)
    dead = {"servers": [f"127.0.0.1:{free_port()}"], "h2": True}
    slow = {**description["backends"]["app"], "timeouts": {"response": "300ms"}}
    description["backends"] |= {"dead": dead, "slow": slow}
    description["routes"] = [
        {"match": {"header": {"X-To": "dead"}}, "backend": "dead"},
        {"match": {"header": {"X-To": "slow"}}, "backend": "slow"},
        {"match": {"header": {"X-To": "limited"}}, "rate": "1/h", "backend": "app"},
        {"match": {"header": {"X-To": "secret"}}, "basic_auth": {"file": str(users)}, "backend": "app"},
        {"match": {"header": {"X-To": "own"}}, "respond": {"status": 403}},
        {"match": {"header": {"X-To": "app"}}, "backend": "app"},
    ]
    gateway = lend_gateway(description)
    with GrpcClient(gateway.port) as client:

        def status(to: str, message: bytes = b"a") -> grpc.StatusCode:
            return failure(lambda: client.unary(message, metadata=(("x-to", to),), timeout=LIMIT))[0]

        assert client.unary(b"a", metadata=(("x-to", "app"),), timeout=LIMIT) == b"a"
        assert status("dead") == grpc.StatusCode.UNAVAILABLE
        assert status("slow", b"hang") == grpc.StatusCode.UNAVAILABLE
        assert status("nowhere") == grpc.StatusCode.UNIMPLEMENTED
        assert status("secret") == grpc.StatusCode.UNAUTHENTICATED
        assert status("own") == grpc.StatusCode.PERMISSION_DENIED
        assert client.unary(b"a", metadata=(("x-to", "limited"),), timeout=LIMIT) == b"a"
        assert status("limited") == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_server_that_stops_fails_no_call(lend_gateway: Starter, echo: GrpcEcho) -> None:
    """It sends GOAWAY, finishes what runs, and closes; calls that cross that go to the other server."""
    with GrpcEcho("other") as other:
        gateway = lend_gateway(calls(echo, other))
        words: queue.Queue[bytes | None] = queue.Queue()
        with GrpcClient(gateway.port) as client:
            assert [client.unary(b"%d" % i, timeout=LIMIT) for i in range(4)] == [b"%d" % i for i in range(4)]
            answers = client.chat(iter(words.get, None), timeout=LIMIT)
            words.put(b"a")
            assert next(answers) == b"re: a"
            stopped = echo.server.stop(LIMIT)
            assert [client.unary(b"%d" % i, timeout=LIMIT) for i in range(20)] == [b"%d" % i for i in range(20)]
            words.put(b"b")
            assert next(answers) == b"re: b"
            words.put(None)
            assert list(answers) == []
            assert stopped.wait(LIMIT)


def test_the_load_in_trailers_is_heard_and_taken_out(lend_gateway: Starter) -> None:
    def script(peer: Peer) -> None:
        for call in peer.complete():
            peer.head(call, 200, ("content-type", "application/grpc"))
            peer.trailers(call, ("endpoint-load-metrics-bin", "CTMzMzMzM+s/"), ("grpc-status", "0"))

    with Http2Server(script) as server:
        description = calls(server, agent={"orca": True, "stale_after": "60s"})
        description["routes"] = [
            {"match": {"path": "/full", "when": 'load("app") > 0.8'}, "respond": {"status": 418}},
            {"backend": "app"},
        ]
        gateway = lend_gateway(description)
        with Http2Client(gateway.port) as client:
            assert client.get(UNARY, *CALL, method="POST").trailers == [("grpc-status", "0")]
            eventually(lambda: client.get("/full").status == 418, "the load of 0.85 to be known")


def test_grpc_web_passes_unchanged(lend_gateway: Starter) -> None:
    """Its messages and trailers are a body like any other, and errors are those of HTTP."""
    description = calls()
    description["backends"]["app"]["servers"] = [f"127.0.0.1:{free_port()}"]
    gateway = lend_gateway(description)
    with Http2Client(gateway.port) as client, RawClient(gateway.port) as old:
        answer = client.get(UNARY, ("content-type", "application/grpc-web+proto"), method="POST")
        assert (answer.status, answer.header("grpc-status")) == (502, None)
        assert old.get(UNARY, "Content-Type: application/grpc-web-text").status == 502


def test_calls_of_grpc_web_pass_as_they_are(lend_gateway: Starter) -> None:
    message = b"\0\0\0\0\5hello"
    trailers = b"\x80\0\0\0\x0fgrpc-status: 0\r\n"
    kind = "application/grpc-web+proto"

    def answers(peer: Peer) -> None:
        for call in peer.complete():
            assert (call.body, call.header("content-type")) == (message, kind)
            peer.answer(call, message + trailers, ("content-type", kind))

    with Http2Server(answers) as server:
        gateway = lend_gateway(calls(server))
        with Http2Client(gateway.port) as client, RawClient(gateway.port) as old:
            answer = client.post(UNARY, message, ("content-type", kind))
            assert (answer.status, answer.header("content-type"), answer.body) == (200, kind, message + trailers)
            assert answer.trailers == []
            head = f"POST {UNARY} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(message)}\r\n\r\n"
            old.send(head.encode() + message)
            assert old.response().body == message + trailers
