"""The memory of a connection while its client is inactive: bytes of the worker, per connection.

    python -m bench.memory [--connections 2000]

The worker's private memory (Pss of /proc/PID/smaps_rollup) before and after clients have come to a halt in one way
or another, divided by their number. What the kernel holds in socket buffers is not counted.
"""

import json
import resource
import socket
import ssl
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.machine import facts
from bench.meter import settled_memory
from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, site

RESULT = Path(__file__).parent / "results" / "memory.json"
REQUEST = b"GET /bytes/10 HTTP/1.1\r\nHost: a\r\n\r\n"


def served(connection: socket.socket) -> None:
    """One request with its response; then silence."""
    connection.sendall(REQUEST)
    data = b""
    while b"abcdefghij" not in data:
        data += connection.recv(4096)


def half_a_head(connection: socket.socket) -> None:
    """600 bytes of a head that does not end."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 560)


def half_a_body(connection: socket.socket) -> None:
    """A kilobyte of a body of two."""
    connection.sendall(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n" + bytes(1000))


def not_reading(connection: socket.socket) -> None:
    """A download of 10 MB whose client does not read."""
    connection.sendall(b"GET /bytes/10000000 HTTP/1.1\r\nHost: a\r\n\r\n")


CASES: dict[str, tuple[Callable[[socket.socket], None], bool]] = {
    "idle after a request": (served, False),
    "idle after a request, TLS": (served, True),
    "within a head": (half_a_head, False),
    "within a body": (half_a_body, False),
    "not reading its answer": (not_reading, False),
}


def measure(name: str, count: int) -> float:
    """Bytes per connection of a case."""
    halt, secure = CASES[name]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = Authority(directory)
        server = stack.enter_context(BackendServer(directory, "app1"))
        description: dict[str, Any] = site([server])
        frontend = description["frontends"][0]
        frontend["limits"] = {"connections_per_source": 100_000, "header_timeout": "10m", "idle_timeout": "10m"}
        if secure:
            frontend["tls"] = {"certificates": [authority.issue("localhost").as_site()]}
        gateway = stack.enter_context(GatewayProcess(directory, description))
        pid = gateway.workers()[0]
        context = authority.client_context() if secure else None
        clients: list[socket.socket] = []

        def come(number: int) -> None:
            for _ in range(number):
                plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
                clients.append(context.wrap_socket(plain, server_hostname="localhost") if context else plain)
                stack.callback(clients[-1].close)
                halt(clients[-1])

        come(50)  # one-time allocations are made now
        before = settled_memory(pid)
        come(count)
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
