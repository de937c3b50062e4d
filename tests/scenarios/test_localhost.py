"""A server called localhost may be at either of its addresses."""

import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import needs
from tests.support.raw import RawClient
from tests.support.raw_server import RawServer, replies
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
HOSTS = {"both": "127.0.0.1 localhost\n::1 localhost\n", "4": "127.0.0.1 localhost\n", "6": "::1 localhost\n"}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace"),
    needs("unshare"),
    pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6"),
]


def gateway_with(hosts: Path, directory: Path, description: Site) -> GatewayProcess:
    """A gateway with an /etc/hosts of its own."""
    mount = f'mount --bind {hosts} /etc/hosts && exec "$0" -m gateway run "$@"'
    command = (shutil.which("unshare") or "unshare", "-m", "sh", "-c", mount, sys.executable)
    kind: type[GatewayProcess] = type("Elsewhere", (GatewayProcess,), {"command": command})
    return kind(directory, description)


@pytest.mark.parametrize("hosts", HOSTS)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_where_it_listens_is_found(tmp_path: Path, hosts: str, host: str) -> None:
    (tmp_path / "hosts").write_text(HOSTS[hosts])
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = listener.getsockname()[1]
    check = {"http": "/", "interval": "100ms"}
    description = site([])
    description["backends"] = {"app": {"servers": [f"localhost:{port}"], "retries": {"attempts": 0}, "check": check}}
    with (
        RawServerAt(listener) as server,
        gateway_with(tmp_path / "hosts", tmp_path, description) as gateway,
    ):
        for _ in range(3):
            with RawClient(gateway.port) as client:
                assert client.get().body == b"ok"
        eventually(lambda: len(server.heads) > 5, "checks to come")
        assert "DOWN" not in gateway.log


class RawServerAt(RawServer):
    """On a socket that listens already."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(replies(OK))
        self._listener.close()
        self._listener = listener


def test_where_it_does_not_listen_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS["both"])
    description = site([])
    description["backends"] = {"app": {"servers": [f"localhost:{free_port()}"], "retries": {"attempts": 0}}}
    with gateway_with(tmp_path / "hosts", tmp_path, description) as gateway, RawClient(gateway.port) as client:
        assert client.get().status == 502
        assert client.get().status == 502
        gateway.wait_for_log("connect_refused")
