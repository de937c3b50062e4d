"""Sets the demo up: servers, agents, key and site file in a temporary directory; then the gateway itself."""

import errno
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from rich.console import Console

from gateway.demo.server import KINDS, Program
from gateway.load.keys import report_key

HOST = "127.0.0.1"
ADMIN = 8900
"""Where the page is, if that port is free."""
START_SECONDS = 20.0
RUN_SERVER = "from gateway.demo.server import main; main()"
HEADER = """\
# The site file of the running demo. Change it and reload: kill -HUP {pid}
# Worth a try: `balance: round-robin` ignores what the servers report, and `affinity: {{cookie: SRV}}` under
# `app` keeps every browser at the server that it came to first.
"""


def site(port: int, directory: Path, servers: Mapping[str, int], reports: int, admin: int) -> dict[str, Any]:
    """Return the demo's site: a gateway on `port` before `servers` (name → local port).

    Load reports come to the UDP port `reports`, operators to the port `admin`; the secret of the reports' keys is in
    `directory`, as is the access log.
    """
    return {
        "node": "demo",
        "workers": min(2, os.cpu_count() or 1),
        "drain": "2s",
        "state": str(directory / "state"),
        "admin": {"sockets": str(directory), "listen": f"{HOST}:{admin}", "without_token": "operate"},
        "access_log": {"path": str(directory / "access.log"), "format": "json"},
        "load_reports": {"listen": f"{HOST}:{reports}", "secret_file": str(directory / "reports.secret")},
        "frontends": [{"name": "web", "listen": f"{HOST}:{port}"}],
        "backends": {
            "app": {
                "balance": "measured",
                "servers": [{"name": name, "address": f"{HOST}:{at}"} for name, at in servers.items()],
                "check": {"http": "/healthz", "interval": "1s", "timeout": "500ms"},
                "agent": {"stale_after": "3s"},
            }
        },
        "routes": [{"backend": "app"}],
    }


def run(port: int, serve: Callable[[Path], int]) -> int:
    """Set the demo up, call `serve` with its site file, and return what that returns.

    Servers and files are removed afterwards. Returns 1, with a message, if `port` is taken. Raises OSError.
    """
    console = Console(highlight=False)
    if not _is_free(port):
        console.print(
            f"Port {port} of {HOST} is taken by another program. Choose another one: "
            f"[bold]gateway demo --port {port + 1 if port < 65535 else 8081}[/]"
        )
        return 1
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="gateway-demo-")))
        directory.chmod(0o755)  # workers that dropped their rights look in here, too
        secret = secrets.token_hex(32).encode()
        _write_key(directory / "reports.secret", secret)
        for name in KINDS:
            _write_key(directory / f"{name}.key", report_key(secret, name))
        reports = _free_port(socket.SOCK_DGRAM)
        servers = {name: stack.enter_context(_server(name, f"{HOST}:{reports}", directory)) for name in KINDS}
        for name, at in servers.items():
            _wait(name, at, directory)
        path = directory / "site.yaml"
        admin = ADMIN if _is_free(ADMIN) else _free_port(socket.SOCK_STREAM)
        description = site(port, directory, servers, reports, admin)
        path.write_text(HEADER.format(pid=os.getpid()) + yaml.safe_dump(description, sort_keys=False))
        _tell(console, port, admin, path)
        return serve(path)


def _write_key(path: Path, key: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(key + b"\n")


@contextmanager
def _server(name: str, gateway: str, directory: Path) -> Iterator[int]:
    """Run a server of KINDS and give its port. Its agent reports to the address `gateway`."""
    with socket.create_server((HOST, 0)) as listener, (directory / f"{name}.log").open("wb") as log:
        port = int(listener.getsockname()[1])
        program = Program(name, listener.fileno(), os.getpid(), gateway, str(directory / f"{name}.key"))
        process = subprocess.Popen(
            [sys.executable, "-c", RUN_SERVER, json.dumps(asdict(program))],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(name: str, port: int, directory: Path) -> None:
    """Return when the server answers, or else the first checks would find it down. Raises OSError."""
    with closing(HTTPConnection(HOST, port, timeout=START_SECONDS)) as connection:
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except (OSError, HTTPException) as error:
            raise OSError(f"{name} does not start: {(directory / f'{name}.log').read_text()}") from error


def _tell(console: Console, port: int, admin: int, path: Path) -> None:
    """Print where to look."""
    url = f"http://{HOST}:{port}"
    console.print(
        f"\n[bold]Gateway on [link={url}/]{url}/[/link][/] in front of three servers, balanced by measured load:\n"
    )
    for name, kind in KINDS.items():
        console.print(f"  [bold]{name}[/]  {kind.about}")
    console.print("\nSee which server answers 300 requests, six at a time:\n")
    console.print(f"  seq 300 | xargs -P 6 -I% curl -s {url}/who | sort | uniq -c", soft_wrap=True)
    watch = f"http://{HOST}:{admin}/"
    console.print(f"\nWatch them, drain one, bring it back: [bold][link={watch}]{watch}[/link][/]")
    console.print(f"\nsite file   {path}", soft_wrap=True)
    console.print(f"access log  {path.with_name('access.log')}", soft_wrap=True)
    console.print("\nStop with Ctrl-C.\n")


def _is_free(port: int) -> bool:
    """Tell whether the gateway could listen on `port`. Raises OSError if that is not even allowed."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(type=kind) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
