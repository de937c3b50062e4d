"""Sessions in a cookie: the client comes back to its server."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def test_a_cookie_brings_the_client_back(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1", "app2", "app3"), affinity={"cookie": "SRV"}))
    with RawClient(gateway.port) as client:
        first = client.get("/who")
        cookie = first.header("Set-Cookie")
        assert cookie is not None
        assert cookie.startswith("SRV=")
        assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
        assert "app" not in cookie  # no names of machines for strangers
        pair = cookie.split(";")[0]
        for value in (pair, f"a=b; {pair}", f"{pair};c=d", f"SRVX=1; {pair}"):
            again = client.get("/who", f"Cookie: {value}")
            assert again.body == first.body
            assert again.header("Set-Cookie") is None
        assert {client.get("/who").body for _ in range(3)} == {b"app1", b"app2", b"app3"}
    with RawClient(gateway.port) as client:  # another connection, maybe another worker or gateway
        assert client.get("/who", f"Cookie: {pair}").body == first.body


def test_a_cookie_that_names_no_server_is_replaced(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1"), affinity={
        "cookie": "SRV", "secure": True, "max_age": "1h", "same_site": "none", "domain": "Example.com", "path": "/shop",
        "http_only": False, "partitioned": True,
    }))  # fmt: skip
    with RawClient(gateway.port) as client:
        for value in (
            "SRV=",
            "SRV=0123456789abcdef",
            "SRV=" + "A" * 32,
            "SRV=" + "*" * 32,
            "SRV=app1",
            "SRV=" + "x" * 1000,
            "XSRV=0123456789abcdef",
        ):
            cookie = client.get("/who", f"Cookie: {value}").header("Set-Cookie")
            assert cookie is not None
            attributes = "; Path=/shop; Domain=example.com; SameSite=None; Secure; Partitioned; Max-Age=3600"
            assert cookie.partition(";")[1:] == (";", attributes[1:])


def test_a_session_whose_server_is_gone_moves_for_good(lend_gateway: Starter, start_servers: Servers) -> None:
    servers = start_servers("app1", "app2")
    gateway = lend_gateway(site(servers, affinity={"cookie": "SRV"}, check={"tcp": True, "interval": "100ms"}))
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


def test_a_cookie_counts_only_as_it_was_signed(lend_gateway: Starter, start_servers: Servers) -> None:
    """Nobody without the key can choose a server: not by changing a cookie, not by another backend's."""
    gateway = lend_gateway(site(start_servers("app1", "app2"), affinity={"cookie": "SRV"}))
    with RawClient(gateway.port) as client:
        pair = (client.get("/who").header("Set-Cookie") or "").split(";")[0]
        assert client.get("/who", f"Cookie: {pair}").header("Set-Cookie") is None
        for place in range(4, len(pair)):
            forged = pair[:place] + ("A" if pair[place] != "A" else "B") + pair[place + 1 :]
            assert client.get("/who", f"Cookie: {forged}").header("Set-Cookie") is not None


def test_the_cookie_of_one_gateway_is_good_at_another(
    start_servers: Servers, tmp_path: Path, lend_gateway: Starter
) -> None:
    """And after a reload with the servers in another order: the state is on the client."""
    servers = start_servers("app1", "app2", "app3")
    key = tmp_path / "affinity.key"
    key.touch(0o600)
    key.write_text("a key of this test alone, 0123456789")
    affinity = {"cookie": "SRV", "key_file": str(key)}
    first = lend_gateway(site(servers, affinity=affinity))
    with RawClient(first.port) as client:
        answer = client.get("/who")
        pair = (answer.header("Set-Cookie") or "").split(";")[0]
    with ExitStack() as stack:
        (tmp_path / "second").mkdir()
        second = stack.enter_context(GatewayProcess(tmp_path / "second", site(servers[::-1], affinity=affinity)))
        with RawClient(second.port) as client:
            for _ in range(3):
                again = client.get("/who", f"Cookie: {pair}")
                assert (again.body, again.header("Set-Cookie")) == (answer.body, None)
        key.write_text("another key, 01234567890123456789")
        second.reload()
        with RawClient(second.port) as client:
            renewed = lambda: client.get("/who", f"Cookie: {pair}").header("Set-Cookie") is not None  # noqa: E731
            eventually(renewed, "cookies of the old key to be renewed")


def test_a_parameter_of_the_url_names_the_server(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(site(start_servers("app1", "app2", "app3"), affinity={"url": "gwserver"}))
    with RawClient(gateway.port) as client:
        for name in ("app3", "app1"):
            for target in (f"/who?gwserver={name}", f"/who?a=b&gwserver={name}&c", f"/who;gwserver={name}?a=b"):
                for _ in range(3):
                    answer = client.get(target)
                    assert answer.header("X-Server") == name
                    assert answer.header("Set-Cookie") is None
        for target in ("/who?gwserver=nobody", "/who?xgwserver=app1", "/who?gwserver=", "/who?gwserver"):
            assert len({client.get(target).body for _ in range(3)}) == 3


def test_a_network_and_a_header_stay_with_a_server(lend_gateway: Starter, start_servers: Servers) -> None:
    servers = start_servers("app1", "app2", "app3")
    gateway = lend_gateway(site(servers, workers=2, affinity={"source": 24}))
    bodies = set()
    for _ in range(9):
        with RawClient(gateway.port) as client:
            bodies.add(client.get("/who").body)
    assert len(bodies) == 1
    gateway.write({**gateway.site, "backends": site(servers, affinity={"header": "X-User"})["backends"]})
    gateway.reload()
    with RawClient(gateway.port) as client:
        eventually(
            lambda: len({client.get("/who", f"X-User: u{user}").body for user in range(20)}) == 3, "the new affinity"
        )
        homes = {user: {client.get("/who", f"X-User: u{user}").body for _ in range(3)} for user in range(20)}
        assert all(len(home) == 1 for home in homes.values())
        assert len(set.union(*homes.values())) == 3
        assert len({client.get("/who").body for _ in range(3)}) == 3  # without the header: in turn
