"""What routes do to requests and answers, on the wire: one gateway for all cases."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

ROUTES: list[dict[str, Any]] = [
    {"match": {"path": "/split/key"}, "rewrite": "/headers",
     "split": {"to": {"canary": "30%", "app": "70%"}, "by": "{header:User}"}},
    {"match": {"path": "/split/cookie"}, "rewrite": "/headers",
     "split": {"to": {"canary": "50%", "app": "50%"}, "cookie": "release"}},
    {"match": {"path": "/split/gone"}, "rewrite": "/headers", "split": {"gone": "99%", "canary": "1%"}},
    {"backend": "app"},
]  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("routes")
    with ExitStack() as stack:
        app, canary = (stack.enter_context(BackendServer(directory, name)) for name in ("app", "canary"))
        description = site([app], 2)
        description["backends"]["canary"] = {"servers": [canary.address]}
        description["backends"]["gone"] = {
            "servers": [f"127.0.0.1:{free_port()}"],
            "check": {"tcp": True, "interval": "200ms", "fall": 1},
        }
        description["routes"] = ROUTES
        yield stack.enter_context(GatewayProcess(directory, description))


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[RawClient]:
    with RawClient(gateway.port) as client:
        yield client


def test_requests_with_the_same_key_go_to_the_same_backend(gateway: GatewayProcess, client: RawClient) -> None:
    names = [client.get("/split/key", f"User: {n}").header("X-Server") for n in range(100)]
    assert 15 < names.count("canary") < 45
    with RawClient(gateway.port) as other:
        assert [other.get("/split/key", f"User: {n}").header("X-Server") for n in range(100)] == names


def test_a_client_stays_with_its_backend_by_a_cookie(client: RawClient) -> None:
    names = set()
    for _ in range(16):
        first = client.get("/split/cookie")
        cookie = (first.header("Set-Cookie") or "").partition(";")[0]
        again = client.get("/split/cookie", f"Cookie: {cookie}")
        assert again.header("X-Server") == first.header("X-Server")
        assert again.header("Set-Cookie") is None
        names.add(first.header("X-Server"))
    assert names == {"app", "canary"}


def test_a_backend_without_a_server_that_works_is_left_out(client: RawClient) -> None:
    eventually(lambda: client.get("/split/gone").status == 200, "the check to find the server down")
    assert {client.get("/split/gone").header("X-Server") for _ in range(20)} == {"canary"}
