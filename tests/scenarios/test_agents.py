"""Text agents: what a server's agent answers on its port decides what the server gets, in every worker."""

import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
LOADAGENT = (sys.executable, "-c", "from loadagent.cli import main; main()")


class TextAgent(socketserver.ThreadingTCPServer):
    """Answers every connection with a line: by what is sent first, or without anything sent at all."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.lines: dict[bytes, bytes] = {}
        agent = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(agent.lines.get(self.rfile.readline().strip(), b"up\n"))

        super().__init__(("127.0.0.1", port), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


@pytest.fixture
def agent() -> Iterator[TextAgent]:
    with TextAgent(free_port()) as running:
        yield running


def test_a_line_takes_a_server_out_and_back(start_gateway: Starter, start_servers: Servers, agent: TextAgent) -> None:
    servers = start_servers("app1", "app2")
    backends = {
        "app": {
            "balance": "round-robin",
            "servers": [{"name": server.name, "address": server.address} for server in servers],
            "agent": {"connect": agent.server_address[1], "interval": "50ms", "send": "app\n"},
        }
    }
    gateway = start_gateway({**site(servers, workers=2), "backends": backends})
    for line, status in ((b"down # for a test\n", 503), (b"up\n", 200), (b"maint\n", 503), (b"ready\n", 200)):
        agent.lines[b"app"] = line

        def arrived(status: int = status) -> bool:
            with RawClient(gateway.port) as one, RawClient(gateway.port) as other:
                return {one.get("/who").status, other.get("/who").status} == {status}

        eventually(arrived, f"{line!r} in every worker")
    gateway.wait_for_log("its agent reports DOWN: for a test")


def test_loadagents_own_line_is_understood(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    servers = start_servers("app1")
    port = free_port()
    file = tmp_path / "agent.yaml"
    file.write_text(f'server: app1\nlisten: "127.0.0.1:{port}"\nmetrics: {{memory: 1.0}}\n')
    backends = {
        "app": {
            "servers": [{"name": "app1", "address": servers[0].address}],
            "agent": {"connect": port, "interval": "500ms"},
        }
    }
    with ExitStack() as stack:
        agent = stack.enter_context(subprocess.Popen([*LOADAGENT, "run", str(file)], stderr=subprocess.DEVNULL))
        stack.callback(agent.kill)
        gateway = start_gateway({**site(servers), "backends": backends})
        # Rules see the load that is what the agent does not want of its weight.
        gateway.write(
            {
                **gateway.site,
                "routes": [{"match": {"when": 'load("app") > 0.001'}, "backend": "app"}, {"respond": {"status": 418}}],
            }
        )
        gateway.reload()

        def status() -> int:
            with RawClient(gateway.port) as client:
                return client.get("/who").status

        eventually(lambda: status() == 200, "the agent's load to be known")
        for command, expected in (("maintenance", 503), ("ready", 200)):
            subprocess.run([*LOADAGENT, command, str(file)], check=True, capture_output=True, timeout=30)
            eventually(lambda expected=expected: status() == expected, command)  # type: ignore[misc]
