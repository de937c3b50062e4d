"""The access log: one line per exchange, whatever became of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def lines(path: Path, count: int) -> list[str]:
    """The lines of the log, once there are `count`."""
    eventually(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, f"{count} lines in the access log")
    return path.read_text().splitlines()


def test_json(lend_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    (server,) = start_servers("app1")
    gateway = lend_gateway({**site([server]), "access_log": {"path": str(path)}})
    with RawClient(gateway.port) as client:
        port = client.socket.getsockname()[1]
        client.get("/bytes/10?q=1", 'User-Agent: a "b\\ \xe9', "Referer: http://x/", host="www.example.com")
        client.ask(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    with RawClient(gateway.port) as client:
        client.ask(b"GET / HTTP/1.1\r\n\r\n")
    with RawClient(gateway.port) as client:
        client.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: server.count == 3, "the request to arrive")
        client.reset()
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines(path, 4)]
    first = entries[0]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert re.fullmatch(r"[0-9a-f]{32}", first.pop("request_id"))
    assert 0 < first.pop("upstream_ms") <= first.pop("duration_ms") < 5000
    assert first == {
        "client": "127.0.0.1", "client_port": port, "scheme": "http", "tls_version": "", "tls_cipher": "",
        "method": "GET", "host": "www.example.com", "uri": "/bytes/10?q=1", "protocol": "HTTP/1.1",
        "status": 200, "outcome": "ok", "side": "", "tries": 1, "bytes": 10, "request_bytes": 0, "queue_ms": 0.0,
        "frontend": "web", "backend": "app", "server": "app1", "referer": "http://x/", "user_agent": 'a "b\\ \xc3\xa9',
    }  # fmt: skip
    assert [(entry["status"], entry["request_bytes"]) for entry in entries[1:]] == [(200, 5), (400, 0), (499, 0)]


def test_a_byte_is_escaped_wherever_it_stands(lend_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    """Lines are written many bytes at a step: in every place of a step, and in what is left after the last."""
    path = tmp_path / "access.log"
    gateway = lend_gateway({**site(start_servers("app1")), "access_log": {"path": str(path)}})
    agents = [("x" * at) + odd + ("y" * (length - at - 1)) for length in (1, 15, 16, 17, 40) for at in range(length)
              for odd in ('"', "\\", "\t", "\x80", "\xff")]  # fmt: skip
    with RawClient(gateway.port) as client:
        for agent in agents:
            client.ask(f"GET /bytes/1 HTTP/1.1\r\nHost: a\r\nUser-Agent: [{agent}]\r\n\r\n".encode("latin-1"))
    assert [json.loads(line)["user_agent"] for line in lines(path, len(agents))] == [f"[{agent}]" for agent in agents]


@pytest.mark.parametrize("form, pattern", [
    ("combined", r'127\.0\.0\.1 - - \[\d\d/\w{3}/20\d\d:\d\d:\d\d:\d\d \+0000\] "GET /bytes/10\?q=1 HTTP/1\.1" 200 10 "-" "a \\"b"'),
    ("{server}|{path}|{status}|{scheme}|{{x}}", r"app1\|/bytes/10\|200\|http\|\{x\}"),
])  # fmt: skip
def test_other_formats(lend_gateway: Starter, start_servers: Servers, tmp_path: Path, form: str, pattern: str) -> None:
    path = tmp_path / "access.log"
    gateway = lend_gateway({**site(start_servers("app1")), "access_log": {"path": str(path), "format": form}})
    with RawClient(gateway.port) as client:
        client.get("/bytes/10?q=1", 'User-Agent: a "b')
    assert re.fullmatch(pattern, lines(path, 1)[0])


def test_no_line_is_lost_when_the_gateway_stops(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    gateway = start_gateway({**site(start_servers("app1")), "access_log": {"path": str(path)}})
    with RawClient(gateway.port) as client:
        for _ in range(2000):
            client.get("/bytes/1")
    assert gateway.terminate() == 0
    assert len(path.read_text().splitlines()) == 2000


def test_standard_output(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway({**site(start_servers("app1")), "access_log": "-"})
    with RawClient(gateway.port) as client:
        client.get("/bytes/1")
    eventually(lambda: gateway.output.count("\n") == 1, "the line")
    assert json.loads(gateway.output)["status"] == 200
