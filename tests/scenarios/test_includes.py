"""A directory of included files: what a reload takes up, and what a start with a mistake in one of them falls back to."""

from collections.abc import Callable
from pathlib import Path

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def test_a_reload_takes_up_included_files_and_a_start_keeps_the_last_good_ones(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    included = tmp_path / "sites"
    included.mkdir()
    gateway = start_gateway({**site(start_servers("app1")), "include": "sites"})
    with RawClient(gateway.port) as client:
        assert client.get("/who", host="shop.example").body == b"app1"
        (included / "shop.yaml").write_text("routes: [{match: {host: shop.example}, respond: {body: shop}}]\n")
        gateway.reload()
        assert client.get("/who", host="shop.example").body == b"shop"
        assert client.get("/who").body == b"app1"
        (included / "shop.yaml").write_text("routes:\n  - respond: {body: shop}\n    backend: nowhere\n")
        assert "refused" in gateway.reload()
        assert f"{included}/shop.yaml:3:5: " in gateway.log
        assert client.get("/who", host="shop.example").body == b"shop"
    assert gateway.terminate() == 0
    gateway.start()
    gateway.wait_for_log("STARTED WITH THE LAST GOOD CONFIGURATION")
    with RawClient(gateway.port) as client:
        eventually(lambda: client.get("/who", host="shop.example").body == b"shop", "the included file of before")
