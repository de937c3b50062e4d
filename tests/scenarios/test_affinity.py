"""Sessions in a cookie: the client comes back to its server."""

from collections.abc import Callable

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def test_a_cookie_brings_the_client_back(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(site(start_servers("app1", "app2", "app3"), affinity={"cookie": "SRV"}))
    with RawClient(gateway.port) as client:
        first = client.get("/who")
        cookie = first.header("Set-Cookie")
        assert cookie is not None
        assert cookie.startswith("SRV=")
        assert "; HttpOnly" in cookie
        assert "app" not in cookie  # no names of machines for strangers
        pair = cookie.split(";")[0]
        for value in (pair, f"a=b; {pair}", f"{pair};c=d", f"SRVX=1; {pair}"):
            again = client.get("/who", f"Cookie: {value}")
            assert again.body == first.body
            assert again.header("Set-Cookie") is None
        assert {client.get("/who").body for _ in range(3)} == {b"app1", b"app2", b"app3"}
    with RawClient(gateway.port) as client:  # another connection, maybe another worker or gateway
        assert client.get("/who", f"Cookie: {pair}").body == first.body


def test_a_cookie_that_names_nobody_is_replaced(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(site(start_servers("app1"), affinity={"cookie": "SRV", "secure": True, "max_age": "1h"}))
    with RawClient(gateway.port) as client:
        for value in ("SRV=", "SRV=0123456789abcdef", "SRV=app1", "SRV=" + "x" * 1000, "XSRV=0123456789abcdef"):
            cookie = client.get("/who", f"Cookie: {value}").header("Set-Cookie")
            assert cookie is not None
            assert cookie.endswith("; Secure; Max-Age=3600")


def test_a_session_whose_server_is_gone_moves_for_good(start_gateway: Starter, start_servers: Servers) -> None:
    servers = start_servers("app1", "app2")
    gateway = start_gateway(site(servers, affinity={"cookie": "SRV"}, check={"tcp": True, "interval": "100ms"}))
    with RawClient(gateway.port) as client:
        first = client.get("/who")
        pair = (first.header("Set-Cookie") or "").split(";")[0]
        lost = next(server for server in servers if server.name.encode() == first.body)
        lost.kill()
        moved = client.get("/who", f"Cookie: {pair}")
        assert moved.status == 200
        assert moved.body != first.body
        new = (moved.header("Set-Cookie") or "").split(";")[0]
        assert new not in ("", pair)
        gateway.wait_for_log(f"{lost.name} is DOWN")
        assert client.get("/who", f"Cookie: {pair}").body == moved.body
        again = client.get("/who", f"Cookie: {new}")
        assert (again.body, again.header("Set-Cookie")) == (moved.body, None)
