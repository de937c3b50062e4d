"""Connections that stop in the middle: of a second head, and of anything when the gateway is told to end."""

import re
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site
from tests.support.lives import Door, Log
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
Stoppable = tuple[GatewayProcess, BackendServer, Log]


@pytest.mark.parametrize("together", [True, False], ids=["in one packet", "after the answer"])
def test_half_a_head_behind_a_good_request_is_told_so(
    door: Door, lend_gateway: Starter, start_servers: Servers, together: bool  # noqa: FBT001
) -> None:  # fmt: skip
    (server,) = start_servers("app1")
    site = door.site({"app": {"servers": [server.address]}}, port=free_port(), limits={"header_timeout": "300ms"})
    gateway = lend_gateway(site)
    good, half = b"GET /bytes/3 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /half HTTP/1.1\r\nHo"
    with door.beside(gateway), door.raw(gateway) as client:
        client.send(good + half if together else good)
        assert client.response().body == b"abc"
        if not together:
            client.send(half)
        answer = client.response()
        assert (answer.status, answer.header("Connection")) == (408, "close")
        assert client.is_closed()
    assert server.count == 1


def hello() -> bytes:
    """The first message of a TLS handshake."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


HEADS = [b"GET / HTTP/1.1\r\nHo", b"GET /bytes/1 HTTP/1.1\r\nHost: a\r\n\r\nGET / HT"]
BODIES = [
    b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello",
    b"POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
]
ANSWERS = [b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n"]
COUNT = 3  # clients that send each of them


def stop_in_the_middle(gateway: GatewayProcess, server: BackendServer, door: Door, middle: list[bytes]) -> None:
    """End a gateway while clients have sent each of `middle` and nothing more; in a handshake if there is none."""
    with ExitStack() as stack:
        if not middle:
            for part in (0, 1, 5, 50, 10_000) if door.context else (0,):
                stack.enter_context(RawClient(gateway.port)).send(hello()[:part])
        arrived = server.count
        for data in middle * COUNT:
            stack.enter_context(door.raw(gateway)).send(data)
            arrived += b"\r\n\r\n" in data
        eventually(lambda: server.count == arrived, "what has a whole head to arrive")
        with door.beside(gateway):
            pass  # whatever was sent has been looked at
        assert gateway.terminate() == 0


@pytest.fixture
def stoppable(door: Door, start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> Stoppable:
    """A gateway with a short drain, its server and its access log."""
    (server,) = start_servers("app1")
    log = Log(tmp_path)
    site = door.site({"app": {"servers": [server.address]}}, port=free_port())
    return start_gateway({**site, "drain": "500ms", "access_log": log.section}), server, log


@pytest.mark.parametrize(
    "middle", [HEADS, [], BODIES, ANSWERS], ids=["a head", "a handshake or nothing", "a body", "an answer"]
)
def test_a_stop_in_the_middle_of(stoppable: Stoppable, door: Door, middle: list[bytes]) -> None:
    """The gateway ends with 0 when the drain is over; its access log is closed after a whole line."""
    gateway, server, log = stoppable
    with door.raw(gateway) as client:
        assert [client.get(f"/bytes/{n}").status for n in range(1, 20)] == [200] * 19
    stop_in_the_middle(gateway, server, door, middle)
    assert "was killed" not in gateway.log
    assert "Traceback" not in gateway.log
    assert set(re.findall(r"ended with status (\d+)", gateway.log)) == {"0"}
    assert log.path.read_bytes().endswith(b"}\n")
    assert [entry["uri"] for entry in log.entries[:19]] == [f"/bytes/{n}" for n in range(1, 20)]


def test_what_a_stop_cuts_is_in_the_access_log(stoppable: Stoppable, door: Door) -> None:
    gateway, server, log = stoppable
    stop_in_the_middle(gateway, server, door, BODIES + ANSWERS)
    uris = [entry["uri"] for entry in log.entries]
    assert (uris.count("/sink"), uris.count("/hang")) == (2 * COUNT, COUNT)
