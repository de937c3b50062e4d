"""The price of HTTP/3 by the libraries that a `quic` process could use: CPU per request, and memory per connection.

    pip install aioquic qh3              # needed for nothing else
    apt install ngtcp2-server            # ngtcp2's example server, with GnuTLS
    python -m bench.quic [--requests 3000] [--rounds 5]

One client (aioquic) keeps ten streams of one connection busy; servers answer with as many bytes as the path says.
The servers take turns in each round. CPU time is that of the server's process, kernel included; the client runs on the
other core. docs/decisions/http3.md says what follows from the figures.
"""

import asyncio
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
import psutil

from tests.support.certificates import Authority, Certificate
from tests.support.waiting import eventually, free_udp_port

STREAMS: Final = 10
IDLE: Final = 100
"""Connections of the measurement of memory."""
SIZES: Final = (130, 10_000)
WARM: Final = 300
"""Requests before those that count."""
WARM_CONNECTIONS: Final = 10
LIBRARIES: Final = ("aioquic", "qh3")
NGTCP2: Final = "ngtcp2"
PEERS: Final = (*LIBRARIES, NGTCP2)


def _protocol(library: str) -> Any:
    """The class of a connection that answers GET /N with N bytes."""
    base: Any = import_module(f"{library}.asyncio.protocol").QuicConnectionProtocol
    http = import_module(f"{library}.h3.connection").H3Connection
    events = import_module(f"{library}.h3.events")

    class Answers(base):  # type: ignore[misc]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self._http = http(self._quic)

        def quic_event_received(self, event: object) -> None:
            for item in self._http.handle_event(event):
                if isinstance(item, events.HeadersReceived):
                    size = int(dict(item.headers)[b":path"][1:])
                    fields = [(b":status", b"200"), (b"content-length", b"%d" % size)]
                    self._http.send_headers(item.stream_id, fields)
                    self._http.send_data(item.stream_id, bytes(size), end_stream=True)

    return Answers


async def serve(library: str, port: int, cert: str, key: str) -> None:
    """Serve until the process is ended."""
    configuration = import_module(f"{library}.quic.configuration").QuicConfiguration(
        is_client=False, alpn_protocols=["h3"]
    )
    configuration.load_cert_chain(cert, key)
    server = import_module(f"{library}.asyncio.server")
    await server.serve("127.0.0.1", port, configuration=configuration, create_protocol=_protocol(library))
    await asyncio.Event().wait()


class Client:
    """The client, on aioquic."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._configuration = import_module("aioquic.quic.configuration").QuicConfiguration(
            is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, server_name="localhost"
        )
        base: Any = import_module("aioquic.asyncio.protocol").QuicConnectionProtocol
        http = import_module("aioquic.h3.connection").H3Connection
        data = import_module("aioquic.h3.events").DataReceived

        class Asks(base):  # type: ignore[misc]
            def __init__(self, *args: object, **kwargs: object) -> None:
                super().__init__(*args, **kwargs)
                self._http = http(self._quic)
                self._ends: dict[int, asyncio.Future[None]] = {}
                self._sizes: dict[int, int] = {}

            async def get(self, size: int) -> None:
                """Raises ValueError for a body of another size, TimeoutError after 10 s without its end."""
                stream = self._quic.get_next_available_stream_id()
                end = self._ends[stream] = asyncio.get_running_loop().create_future()
                self._sizes[stream] = 0
                head = ((":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", f"/{size}"))
                fields = [(name.encode(), value.encode()) for name, value in head]
                self._http.send_headers(stream, fields, end_stream=True)
                self.transmit()
                async with asyncio.timeout(10.0):
                    await end
                if self._sizes.pop(stream) != size:
                    raise ValueError(f"a body of {self._sizes} bytes instead of {size}")

            def quic_event_received(self, event: object) -> None:
                for item in self._http.handle_event(event):
                    if isinstance(item, data):
                        self._sizes[item.stream_id] += len(item.data)
                    if item.stream_ended:
                        self._ends.pop(item.stream_id).set_result(None)

        self._asks = Asks

    def connect(self) -> Any:
        """A connection whose handshake is done."""
        connect = import_module("aioquic.asyncio.client").connect
        return connect("127.0.0.1", self._port, configuration=self._configuration, create_protocol=self._asks)


@contextmanager
def server(peer: str, cert: Path, key: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A running server on the first core: its port and process."""
    port = free_udp_port()
    if peer == NGTCP2:
        command = ["gtlsserver", "-q", "127.0.0.1", str(port), str(key), str(cert)]
    else:
        command = [sys.executable, "-m", "bench.quic", "--serve", peer, str(port), str(cert), str(key)]
    process = subprocess.Popen(["taskset", "-c", "0", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        found = psutil.Process(process.pid)
        eventually(lambda: found.net_connections("udp"), f"{peer} listens")
        yield port, found
    finally:
        process.terminate()
        process.wait()


async def _requests(connection: Any, size: int, count: int) -> None:
    left = iter(range(count))

    async def stream() -> None:
        for _ in left:
            await connection.get(size)

    async with asyncio.TaskGroup() as group:
        for _ in range(STREAMS):
            group.create_task(stream())


async def cpu(client: Client, process: psutil.Process, size: int, requests: int) -> float:
    """Microseconds of the server's CPU time per request."""
    async with client.connect() as connection:
        await _requests(connection, size, WARM)
        before = process.cpu_times()
        await _requests(connection, size, requests)
        after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / requests * 1e6


async def memory(client: Client, process: psutil.Process) -> float:
    """KiB of the server's memory per connection that has had one answer and is idle."""
    async with AsyncExitStack() as stack:
        before = 0
        for number in range(WARM_CONNECTIONS + IDLE):
            if number == WARM_CONNECTIONS:
                before = process.memory_info().rss
            connection = await stack.enter_async_context(client.connect())
            await connection.get(SIZES[0])
        return (process.memory_info().rss - before) / IDLE / 1024


@click.command()
@click.option("--requests", default=3000, show_default=True, help="Of each measurement.")
@click.option("--rounds", default=5, show_default=True, help="Of which the median counts.")
@click.option("--serve", "role", nargs=4, hidden=True)
def main(*, requests: int, rounds: int, role: tuple[str, str, str, str] | None) -> None:
    """Measure servers of HTTP/3."""
    if role:
        library, given, cert, key = role
        asyncio.run(serve(library, int(given), cert, key))
        return
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as directory:
        pair = Authority(Path(directory)).issue("localhost")
        times: dict[str, dict[int, list[float]]] = {peer: {size: [] for size in SIZES} for peer in PEERS}
        failed: dict[str, ExceptionGroup[Exception]] = {}
        for _ in range(rounds):
            for peer in PEERS:
                if peer not in failed:
                    try:
                        _measure(peer, pair, requests, times[peer])
                    except* (OSError, ValueError) as error:
                        failed[peer] = error
        for peer in PEERS:
            if peer in failed:
                click.echo(f"{peer:10}failed: {failed[peer].exceptions[0]!r}")
                continue
            with server(peer, pair.cert, pair.key) as (port, process):
                kept = asyncio.run(memory(Client(port), process))
            figures = "".join(f"{statistics.median(times[peer][size]):>9.0f} µs" for size in SIZES)
            click.echo(f"{peer:10}{figures}{kept:>8.0f} KiB")


def _measure(peer: str, pair: Certificate, requests: int, times: dict[int, list[float]]) -> None:
    """Add one round of a server to its times. Raises OSError (TimeoutError) and ValueError, alone or in groups."""
    with server(peer, pair.cert, pair.key) as (port, process):
        for size in SIZES:
            times[size].append(asyncio.run(cpu(Client(port), process, size, requests)))


if __name__ == "__main__":
    main()
