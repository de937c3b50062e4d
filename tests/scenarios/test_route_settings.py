"""Routes with limits, timeouts, retries and affinity of their own, at one backend."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("settings")
    with ExitStack() as stack:
        servers = [stack.enter_context(BackendServer(directory, name)) for name in ("app1", "app2")]
        description = site(servers, affinity={"cookie": "SRV"}, timeouts={"response": "20s"}, retries={"on": ["502"]})
        description["access_log"] = {"path": "-", "format": "{uri} {tries}"}
        description["routes"] = [
            {"match": {"path": "/hang"}, "timeouts": {"response": "200ms"}, "backend": "app"},
            {"match": {"path": "/who", "query": {"free": True}}, "affinity": False, "backend": "app"},
            {
                "match": {"path": "/who", "query": {"tenant": True}},
                "affinity": {"header": "X-Tenant"},
                "backend": "app",
            },
            {
                "match": {"path": "/who", "query": {"own": True}},
                "affinity": {"cookie": "OWN", "path": "/who"},
                "backend": "app",
            },
            {"match": {"path": "/status/502", "query": {"once": True}}, "retries": {"attempts": 0}, "backend": "app"},
            {
                "match": {"path": "/status/502", "query": {"reset": True}},
                "retries": {"on": ["reset"]},
                "backend": "app",
            },
            {"match": {"path": "/status/503"}, "retries": {"on": [503]}, "backend": "app"},
            {"match": {"path": "/sink", "query": {"small": True}}, "body_bytes": "10B"},
            {"match": {"path": "/bytes/"}, "header_bytes": "200B"},
            {"backend": "app"},
        ]
        yield stack.enter_context(GatewayProcess(directory, description))


def post(client: RawClient, path: str, body: bytes, *, chunked: bool = False) -> int:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    return client.ask(f"POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode() + sent, "POST").status


@pytest.mark.parametrize("chunked", [False, True])
def test_a_route_has_a_smaller_limit_on_bodies_than_its_frontend(gateway: GatewayProcess, *, chunked: bool) -> None:
    for path, size, status in (("/sink?small", 10, 200), ("/sink?small", 11, 413), ("/sink", 11, 200)):
        with RawClient(gateway.port) as client:
            assert post(client, path, b"x" * size, chunked=chunked) == status


def test_a_route_has_a_smaller_limit_on_heads_than_its_frontend(gateway: GatewayProcess) -> None:
    for path, length, status in (("/bytes/1", 200, 200), ("/bytes/1", 201, 431), ("/delay/0", 201, 200)):
        with RawClient(gateway.port) as client:
            head = f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Filler: "
            head += "x" * (length - len(head) - 4) + "\r\n\r\n"
            assert len(head) == length
            assert client.ask(head.encode()).status == status


def test_a_route_has_a_shorter_timeout_than_its_backend(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        assert client.get("/hang").status == 504


def test_a_route_without_affinity_sets_no_cookie_and_reads_none(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        cookie = (client.get("/who").header("Set-Cookie") or "").split(";")[0]
        assert cookie
        kept = {client.get("/who", f"Cookie: {cookie}").body for _ in range(4)}
        assert len(kept) == 1
        free = [client.get("/who?free", f"Cookie: {cookie}") for _ in range(4)]
        assert {answer.body for answer in free} == {b"app1", b"app2"}
        assert [answer.header("Set-Cookie") for answer in free] == [None] * 4


def test_a_route_has_affinity_of_another_kind_than_its_backend(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        for tenant in "abcd":
            answers = [client.get("/who?tenant", f"X-Tenant: {tenant}") for _ in range(4)]
            assert len({answer.body for answer in answers}) == 1
            assert [answer.header("Set-Cookie") for answer in answers] == [None] * 4
        first = client.get("/who?own")
        cookie, _, attributes = (first.header("Set-Cookie") or "").partition("; ")
        assert cookie.startswith("OWN=")
        assert "Path=/who" in attributes
        assert {client.get("/who?own", f"Cookie: {cookie}").body for _ in range(4)} == {first.body}
        assert (client.get("/who", f"Cookie: {cookie}").header("Set-Cookie") or "").startswith("SRV=")


def test_a_route_has_fewer_retries_than_its_backend(gateway: GatewayProcess) -> None:
    def tries() -> dict[str, int]:
        lines = [line.split() for line in gateway.output.splitlines() if line.startswith("/status")]
        return {uri: int(number) for uri, number in lines}

    with RawClient(gateway.port) as client:
        client.get("/status/502")
        client.get("/status/502?once")
        client.get("/status/502?reset")
        client.get("/status/503")
    expected = {"/status/502": 2, "/status/502?once": 1, "/status/502?reset": 1, "/status/503": 2}
    eventually(lambda: tries() == expected, "four lines in the log")
