"""The memory of a connection while its client is inactive: bytes of the worker, per connection.

    python -m bench.memory [--connections 2000]

The worker's private memory (Pss of /proc/PID/smaps_rollup) before and after clients have come to a halt in one way
or another, divided by their number. What the kernel holds is not counted: sockets with their buffers, the epoll set.
"""

import json
import resource
import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.load import BROWSER
from bench.machine import facts
from bench.meter import settled_memory
from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, site
from tests.support.http2_client import Http2Client

WARM = 50
REST = 1.5
"""Seconds until HTTP/2 connections that do nothing have given memory back, and a little more."""
Come = Callable[[int, ssl.SSLContext | None], socket.socket | Http2Client]
"""A client, by the port and what TLS needs, that has come to a halt."""
RESULT = Path(__file__).parent / "results" / "memory.json"
FIELDS = [(name.lower(), value) for name, _, value in (field.partition(": ") for field in BROWSER)]
REQUEST = b"GET /bytes/10 HTTP/1.1\r\nHost: a\r\n\r\n"


def served(connection: socket.socket) -> None:
    """One request with its response; then silence."""
    connection.sendall(REQUEST)
    data = b""
    while b"abcdefghij" not in data:
        data += connection.recv(4096)


def served_http2(port: int, context: ssl.SSLContext | None) -> Http2Client:
    """A request with a browser's fields and its response, over HTTP/2; then silence."""
    client = Http2Client(port, context)
    if client.get("/bytes/10", *FIELDS).status != 200:
        raise RuntimeError("a request has failed")
    return client


def half_a_head(connection: socket.socket) -> None:
    """600 bytes of a head that does not end."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 560)


def half_a_body(connection: socket.socket) -> None:
    """A kilobyte of a body of two."""
    connection.sendall(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n" + bytes(1000))


def not_reading(connection: socket.socket) -> None:
    """A download of 10 MB whose client does not read."""
    connection.sendall(b"GET /bytes/10000000 HTTP/1.1\r\nHost: a\r\n\r\n")


def over_http1(halt: Callable[[socket.socket], None]) -> Come:
    """A client that comes and halts like this."""

    def come(port: int, context: ssl.SSLContext | None) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        halt(connection)
        return connection

    return come


CASES: dict[str, tuple[Come, bool]] = {
    "idle after a request": (over_http1(served), False),
    "idle after a request, TLS": (over_http1(served), True),
    "idle after a request, HTTP/2": (served_http2, False),
    "idle after a request, HTTP/2, TLS": (served_http2, True),
    "within a head": (over_http1(half_a_head), False),
    "within a body": (over_http1(half_a_body), False),
    "not reading its answer": (over_http1(not_reading), False),
}


def measure(name: str, count: int) -> float:
    """Bytes per connection of a case."""
    come, secure = CASES[name]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = Authority(directory)
        server = stack.enter_context(BackendServer(directory, "app1"))
        description: dict[str, Any] = site([server])
        frontend = description["frontends"][0]
        frontend["limits"] = {"connections_per_source": 100_000, "header_timeout": "10m", "idle_timeout": "10m"}
        frontend["http2"] = come is served_http2
        if secure:
            frontend["tls"] = {"certificates": [authority.issue("localhost").as_site()]}
        gateway = stack.enter_context(GatewayProcess(directory, description))
        pid = gateway.workers()[0]
        context = authority.client_context() if secure else None
        clients: list[socket.socket | Http2Client] = []  # kept: they are closed when they are forgotten

        def admit(number: int) -> None:
            for _ in range(number):
                clients.append(come(gateway.port, context))
                stack.callback(clients[-1].close)

        admit(WARM)  # one-time allocations are made now
        time.sleep(REST)
        before = settled_memory(pid)
        admit(count)
        time.sleep(REST)
        return (settled_memory(pid) - before) / count


@click.command()
@click.option("--connections", default=2000, show_default=True, help="Connections of each case.")
def main(connections: int) -> None:
    """Measure every case and print a table."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # A stalled download also stalls a connection to the server, and TLS costs processor time: fewer of those.
    found = {name: round(measure(name, connections if "idle" in name else connections // 4)) for name in CASES}
    table = Table("connection", "bytes in the worker", title="Memory per connection that does nothing")
    for name, size in found.items():
        table.add_row(name, f"{size:,}")
    Console().print(table)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"machine": facts(), "openssl": ssl.OPENSSL_VERSION, "bytes": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
