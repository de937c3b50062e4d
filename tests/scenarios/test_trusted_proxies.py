"""Behind proxies that are trusted: who the client is, in rules, in the log and in limits."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def behind(servers: list[BackendServer], **frontend: Any) -> dict[str, Any]:
    description = site(servers)
    description["frontends"][0] |= {"trusted_proxies": ["127.0.0.0/8"], **frontend}
    return description


def test_each_client_is_one_wherever_it_is_looked_at(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    description = behind(start_servers("app1"))
    description["access_log"] = {
        "path": str(tmp_path / "log"), "format": "{client} {client_port} {peer} {scheme} {uri}"
    }  # fmt: skip
    description["routes"] = [
        {"match": {"source": "192.0.2.0/24"}, "respond": {"status": 200, "body": "inside"}},
        {"set_header": {"X-Client": "{client} {scheme}"}, "backend": "app"},
    ]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        port = client.socket.getsockname()[1]
        assert client.get("/1", "X-Forwarded-For: 192.0.2.7:51234").body == b"inside"
        head = client.get("/headers", "Forwarded: for=198.51.100.60;proto=https").body
        assert b"\r\nX-Client: 198.51.100.60 https\r\n" in head
        client.get("/status/200")
        client.get("/%00", "X-Forwarded-For: 198.51.100.1")
    path = tmp_path / "log"
    eventually(lambda: path.exists() and path.read_text().count("\n") == 4, "four lines")
    assert path.read_text().splitlines() == [
        "192.0.2.7 0 127.0.0.1 http /1", "198.51.100.60 0 127.0.0.1 https /headers",
        f"127.0.0.1 {port} 127.0.0.1 http /status/200", "198.51.100.1 0 127.0.0.1 http /%00",
    ]  # fmt: skip


def test_client_from_names_the_field(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(behind(start_servers("app1"), client_from="CF-Connecting-IP"))
    with RawClient(gateway.port) as client:
        head = client.get("/headers", "CF-Connecting-IP: 192.0.2.7", "X-Forwarded-For: 6.6.6.6").body
        assert b"\r\nCF-Connecting-IP: 192.0.2.7\r\n" in head
    stranger = behind(start_servers("app2"), client_from="CF-Connecting-IP", trusted_proxies=["192.0.2.1/32"])
    gateway.reload(
        {**stranger, "frontends": [{**stranger["frontends"][0], "listen": gateway.site["frontends"][0]["listen"]}]}
    )
    with RawClient(gateway.port) as client:
        assert b"192.0.2.7" not in client.get("/headers", "CF-Connecting-IP: 192.0.2.7").body


@pytest.mark.parametrize("trusted", [True, False])
def test_a_trusted_proxy_is_not_one_source(
    lend_gateway: Starter,
    start_servers: Servers,
    trusted: bool,  # noqa: FBT001
) -> None:
    description = behind(start_servers("app1"), limits={"connections_per_source": 3})
    if not trusted:
        del description["frontends"][0]["trusted_proxies"]
    gateway = lend_gateway(description)
    served = 0
    with ExitStack() as stack:
        for number in range(8):
            try:
                client = stack.enter_context(RawClient(gateway.port))
                served += client.get("/status/200", f"X-Forwarded-For: 198.51.100.{number}").status == 200
            except OSError:
                continue
    # The harness may still be counted for having looked whether the port accepts.
    assert served == 8 if trusted else served <= 3
