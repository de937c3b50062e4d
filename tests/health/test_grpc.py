"""gRPC health checks: against a real gRPC server, and against what is none."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from gateway.config.model import Check
from gateway.health.probe import Probe, Target
from gateway.health.result import Outcome, Result
from gateway.health.tls import Tls
from tests.health.serving import Serve, serving
from tests.support.backend_server import ROOT
from tests.support.certificates import Authority


class GrpcServer:
    """The program tests.support.grpc_server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.address = "127.0.0.1", int(process.stdout.readline())

    def set(self, service: str, state: str) -> None:
        """Set the state of a service; returns when it is."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{service}={state}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "set\n"


@contextmanager
def running(*files: Path) -> Iterator[GrpcServer]:
    """Run it, with the files of a certificate and its key in TLS."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.grpc_server", *map(str, files)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield GrpcServer(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with running() as started:
        yield started


async def run(address: tuple[str, int], service: str = "", timeout: str = "20s", tls: Tls | None = None) -> Result:
    target = Target("app/a", 0, address, "a:1", tls=tls)
    return await Probe().check(target, Check.model_validate({"grpc": service, "timeout": timeout}))


async def test_what_a_real_server_says(server: GrpcServer) -> None:
    server.set("", "SERVING")
    server.set("shop.v1.Orders", "NOT_SERVING")
    assert (result := await run(server.address)).outcome is Outcome.OK, result
    result = await run(server.address, "shop.v1.Orders")
    assert (result.outcome, result.detail) == (Outcome.GRPC_NOT_SERVING, "NOT_SERVING")
    server.set("shop.v1.Orders", "SERVING")
    assert (await run(server.address, "shop.v1.Orders")).good
    result = await run(server.address, "x" * 200)
    assert result.outcome is Outcome.GRPC_STATUS
    assert result.detail.startswith("grpc-status 5")
    assert result.seconds > 0


async def test_over_tls(authority: Authority) -> None:
    """The certificate is verified, HTTP/2 agreed on, and each failure has its name."""
    own, others = authority.issue("localhost"), authority.issue("elsewhere.example")
    cas = authority.ca.read_bytes()
    with running(own.cert, own.key) as server:
        server.set("", "SERVING")
        server.set("shop.v1.Orders", "NOT_SERVING")
        assert (result := await run(server.address, tls=Tls("localhost", cas))).good, result
        assert (await run(server.address, tls=Tls("localhost", None))).good
        result = await run(server.address, "shop.v1.Orders", tls=Tls("localhost", cas))
        assert result.outcome is Outcome.GRPC_NOT_SERVING
        assert (await run(server.address, tls=Tls("other", cas))).outcome is Outcome.TLS_NAME_MISMATCH
        result = await run(server.address, tls=Tls("localhost", others.cert.read_bytes()))
        assert result.outcome is Outcome.TLS_UNKNOWN_CA
        assert (await run(server.address)).outcome is Outcome.GRPC_CLOSED  # plain text to a port of TLS


async def test_tls_to_a_port_without_it(server: GrpcServer, authority: Authority) -> None:
    result = await run(server.address, tls=Tls("localhost", authority.ca.read_bytes()))
    assert result.outcome in {Outcome.TLS_NOT_SPOKEN, Outcome.TLS_FAILED}, result


def script(*fields: tuple[str, str], data: bytes = b"", trailers: tuple[tuple[str, str], ...] = ()) -> Serve:
    """Return an HTTP/2 server that answers the first request like this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        while piece := await reader.read(65536):
            for event in connection.receive_data(piece):
                if isinstance(event, h2.events.StreamEnded):
                    connection.send_headers(event.stream_id, fields, end_stream=not (data or trailers))
                    if data:
                        connection.send_data(event.stream_id, data, end_stream=not trailers)
                    if trailers:
                        connection.send_headers(event.stream_id, trailers, end_stream=True)
            writer.write(connection.data_to_send())

    return serve


def raw(answer: bytes, *, hang: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        if hang:
            await reader.read()
            await asyncio.sleep(60)

    return serve


STATUS = (":status", "200")
DONE = (("grpc-status", "0"),)


@pytest.mark.parametrize(
    "serve, outcome",
    [
        (script(STATUS, data=b"\0\0\0\0\x02\x08\x01", trailers=DONE), Outcome.OK),
        (script(STATUS, data=b"\0\0\0\0\x02\x08\x02", trailers=DONE), Outcome.GRPC_NOT_SERVING),
        (script(STATUS, data=b"\0\0\0\0\0", trailers=DONE), Outcome.GRPC_NOT_SERVING),  # 0: UNKNOWN
        (script(STATUS, data=b"\0\0\0\0\x02\x08\x7e", trailers=DONE), Outcome.GRPC_NOT_SERVING),
        (script(STATUS, data=b"\0\0\0\0\x02\x10\x01", trailers=DONE), Outcome.GRPC_INVALID),
        (script(STATUS, data=b"\x01\0\0\0\x02\x08\x01", trailers=DONE), Outcome.GRPC_INVALID),  # compressed
        (script(STATUS, data=b"\0\0\0\0\x09\x08\x01", trailers=DONE), Outcome.GRPC_INVALID),
        (script(STATUS, trailers=DONE), Outcome.GRPC_INVALID),
        (script(STATUS, data=b"\0\0\0\0\x02\x08\x01"), Outcome.GRPC_STATUS),  # no status at all
        (script(STATUS, ("grpc-status", "12"), ("grpc-message", "no such method")), Outcome.GRPC_STATUS),
        (script((":status", "404")), Outcome.GRPC_INVALID),
        (raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Outcome.GRPC_INVALID),
        (raw(b""), Outcome.GRPC_CLOSED),
        (raw(b"\0\0\0\x04\0\0\0\0\0"), Outcome.GRPC_CLOSED),  # SETTINGS, and the end
        (raw(b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x08\x07\0\0\0\0\0" + bytes(8)), Outcome.GRPC_CLOSED),  # GOAWAY
        (raw(b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x04\x03\0\0\0\0\x01" + bytes(4)), Outcome.GRPC_CLOSED),  # RST_STREAM
        (raw(b"\0\0\0\x04\0\0\0\0\0" * 10_000, hang=True), Outcome.GRPC_INVALID),  # 90,000 bytes of nothing
        (raw(b"", hang=True), Outcome.GRPC_TIMEOUT),
    ],
)
async def test_answers(serve: Serve, outcome: Outcome) -> None:
    async with serving(serve) as server:
        timeout = "500ms" if outcome is Outcome.GRPC_TIMEOUT else "20s"
        result = await run(server.sockets[0].getsockname(), timeout=timeout)
    assert result.outcome is outcome, result


async def test_no_process_listens() -> None:
    async with serving(raw(b"")) as server:
        address = server.sockets[0].getsockname()
    assert (await run(address)).outcome is Outcome.TCP_CONNECT_REFUSED
