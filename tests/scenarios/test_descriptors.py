"""Clients that take every file descriptor: servers can still be reached, and none is blamed for it."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess
from tests.support.lives import Door, counts
from tests.support.programs import needs
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

LIMIT = 60

pytestmark = needs("prlimit")


class FewDescriptors(GatewayProcess):
    """A gateway whose processes may open LIMIT files each."""

    command = ("prlimit", f"--nofile={LIMIT}:{LIMIT}", sys.executable, "-m", "gateway", "run")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[BackendServer]]:
    with BackendServer(tmp_path, "app1") as one, BackendServer(tmp_path, "app2") as two:
        yield [one, two]


@pytest.fixture
def gateway(tmp_path: Path, servers: list[BackendServer]) -> Iterator[FewDescriptors]:
    app = {
        "balance": "round-robin",
        "servers": [{"name": server.name, "address": server.address} for server in servers],
        "outlier": {"errors": 1},
        "retries": {"attempts": 0},
    }
    site = Door(None, {}).site({"app": app}, port=free_port())
    with FewDescriptors(tmp_path, site) as gateway:
        yield gateway


def take_all(stack: ExitStack, gateway: GatewayProcess) -> tuple[list[RawClient], list[RawClient]]:
    """Connect until the gateway says that it has no descriptors left; the clients that are in, and those that wait."""
    clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(LIMIT)]
    gateway.wait_for_log("out of file descriptors.*raise the limit")
    eventually(lambda: counts(gateway).open > 0, "the first to be in")
    inside = counts(gateway).open
    return clients[:inside], clients[inside:]


def test_connected_clients_are_served(gateway: FewDescriptors, servers: list[BackendServer]) -> None:
    with ExitStack() as stack:
        clients, _ = take_all(stack, gateway)
        assert gateway.status()["frontends"][0]["pauses"] > 0
        assert [client.get().body for client in clients[:6]] == [b"app1", b"app2"] * 3
    assert all(server.count == 3 for server in servers)


def test_no_server_is_blamed_when_all_ask_at_the_same_time(gateway: FewDescriptors) -> None:
    """More requests than any reserve: some may be refused, and that is the gateway's own fault."""
    with ExitStack() as stack:
        clients, _ = take_all(stack, gateway)
        for client in clients:
            client.send(b"GET /delay/0.2 HTTP/1.1\r\nHost: a\r\n\r\n")
        statuses = {client.response().status for client in clients}
        assert 200 in statuses
        assert statuses <= {200, 503}
        assert counts(gateway).failures == 0
    assert "ejected" not in gateway.log


def test_when_they_go_everything_works_again(gateway: FewDescriptors) -> None:
    """Clients that were not accepted before are served, too; the log does not have a line for each of them."""
    before = (gateway.workers(), gateway.control())
    with ExitStack() as stack:
        clients, others = take_all(stack, gateway)
        waiting = stack.enter_context(RawClient(gateway.port))
        waiting.send(b"GET /beside HTTP/1.1\r\nHost: a\r\n\r\n")
        for client in (*clients, *others):
            client.close()
        assert waiting.response().status == 204
    with RawClient(gateway.port) as client:
        assert {client.get().body for _ in range(4)} == {b"app1", b"app2"}
    assert gateway.log.count("out of file descriptors") < 5
    assert "Traceback" not in gateway.log
    assert (gateway.workers(), gateway.control()) == before
