"""An answer that is ready before the request has been read: a client that writes first still gets it."""

import http.client
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


@pytest.fixture
def gateway(start_gateway: Starter, start_servers: Servers) -> GatewayProcess:
    description: dict[str, Any] = site(start_servers("app1"))
    description["frontends"][0]["limits"] = {"body_bytes": "1MiB", "body_rate": "20KB/s"}
    description["routes"] = [
        {"match": {"path": "/old"}, "redirect": "/new"},
        {"match": {"path": "/no"}, "respond": {"status": 403}},
        {"backend": "app"},
    ]
    return start_gateway(description)


@pytest.mark.parametrize("path, size, status", [("/", 16 << 20, 413), ("/old", 1 << 20, 302), ("/no", 1 << 20, 403)])
def test_a_client_that_writes_everything_first_reads_the_answer(
    gateway: GatewayProcess, path: str, size: int, status: int
) -> None:
    client = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    try:
        client.request("POST", path, body=bytes(size))
        assert client.getresponse().status == status
    finally:
        client.close()


def test_so_does_a_client_that_takes_longer_than_a_pause(gateway: GatewayProcess) -> None:
    """Four seconds of writing at 500 kB/s: each piece comes in time, and the rate is right."""
    with RawClient(gateway.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 4.0:
            client.send(bytes(50_000))
            time.sleep(0.1)
        assert client.response("POST").status == 413


@pytest.mark.parametrize("pause", [0.2, 3.0])
def test_a_client_that_only_trickles_is_disconnected(gateway: GatewayProcess, pause: float) -> None:
    """A byte now and then would keep the connection for as long as a client may linger."""
    with RawClient(gateway.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
        assert client.response("POST").status == 413
        began = time.monotonic()
        gone = False
        while not gone and time.monotonic() - began < 20.0:
            try:
                client.send(b"x")
                time.sleep(pause)
            except OSError:
                gone = True
        assert gone
