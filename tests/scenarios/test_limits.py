"""What clients may take, in connections and in time, and what happens when the machine has no more to give."""

import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http.client import RemoteDisconnected
from pathlib import Path

from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import needs
from tests.support.raw import LIMIT, RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


class FewDescriptors(GatewayProcess):
    """A gateway that may open 40 files."""

    command = ("prlimit", "--nofile=40:40", sys.executable, "-m", "gateway", "run")


@needs("prlimit")
def test_clients_wait_when_descriptors_run_out(start_servers: Servers, tmp_path: Path) -> None:
    with FewDescriptors(tmp_path, site(start_servers("app1"))) as gateway:
        with ExitStack() as stack:
            clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(40)]
            gateway.wait_for_log("out of file descriptors")
            assert clients[0].get("/bytes/1").status == 200  # admitted clients have room to reach a server
        with RawClient(gateway.port) as client:
            assert client.get("/bytes/10").body == b"abcdefghij"
        assert gateway.log.count("out of file descriptors") < 5
        assert "Traceback" not in gateway.log


def limited(servers: list[BackendServer], workers: int = 1, **limits: object) -> Site:
    description = site(servers, workers)
    description["frontends"][0]["limits"] = limits
    return description


def turned_away(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a new connection is closed without a word."""
    try:
        with RawClient(port, host=host) as client:
            client.send(b"GET /bytes/1 HTTP/1.1\r\nHost: a\r\n\r\n")
            return client.read(b"\r\n\r\n") == b""
    except ConnectionError:
        return True


def insist(port: int) -> RawClient:
    """A client that has been served; it tries again while places of connections that have ended are not free yet."""
    served = []

    def ask() -> bool:
        client = RawClient(port)
        try:
            if client.get("/bytes/1").status == 200:
                served.append(client)
                return True
        except (ConnectionError, RemoteDisconnected):
            pass
        client.close()
        return False

    eventually(ask, "a place to be free")
    return served[0]


def test_a_frontend_has_so_many_connections_and_no_more(lend_gateway: Starter, start_servers: Servers) -> None:
    gateway = lend_gateway(limited(start_servers("app1"), connections=3))
    with ExitStack() as stack:
        clients = [stack.enter_context(insist(gateway.port)) for _ in range(3)]
        assert turned_away(gateway.port)
        assert [client.get("/bytes/1").status for client in clients] == [200] * 3
        gateway.wait_for_log("web: 127.0.0.1 refused: the frontend has reached its limit of 3 connections")
        clients[0].close()
        eventually(lambda: not turned_away(gateway.port), "a place to be free")
    gateway.reload()
    eventually(lambda: not turned_away(gateway.port), "no client that has left to be counted")


def test_a_source_has_so_many_over_all_workers(start_gateway: Starter, start_servers: Servers) -> None:
    gateway = start_gateway(limited(start_servers("app1"), workers=2, connections_per_source=5))
    with ExitStack() as stack:
        clients = [stack.enter_context(insist(gateway.port)) for _ in range(5)]
        assert all(turned_away(gateway.port) for _ in range(10))
        gateway.wait_for_log("refused: its source has reached the limit of 5 connections")
        for client in clients:
            client.close()
        eventually(lambda: not turned_away(gateway.port), "places to be free")
    # What a dead worker had counts no more.
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(insist(gateway.port))
        for number in (0, 1):
            gateway.kill_worker(number)
        eventually(lambda: len(gateway.workers()) == 2, "two workers")
        eventually(lambda: not turned_away(gateway.port), "places to be free")


def test_a_body_that_is_too_slow_in_all(lend_gateway: Starter, start_servers: Servers) -> None:
    """A byte now and then is never silent for long; the rate over the whole ends it, ten seconds later at the earliest."""
    gateway = lend_gateway(limited(start_servers("app1"), body_rate="1000/s"))
    with RawClient(gateway.port) as slow, RawClient(gateway.port) as steady:
        began = time.monotonic()
        for client in (slow, steady):
            client.send(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        slow.socket.settimeout(0.2)
        answer = b""
        sent = 0
        while not answer and time.monotonic() - began < 30:
            slow.send(b"x")
            due = int(2000 * (time.monotonic() - began)) + 400
            steady.send(bytes(due - sent))
            sent = due
            try:
                answer = slow.socket.recv(65536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began > 9.5
        # 2000 bytes a second are enough, however unevenly this process gets to send them.
        steady.socket.settimeout(0.5)
        steady.send(bytes(400))
        with suppress(TimeoutError):
            assert steady.socket.recv(1) == b"nothing"


def test_proxies_name_the_client(lend_gateway: Starter, start_servers: Servers) -> None:
    description = site(start_servers("app1"))
    description["frontends"][0] |= {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}
    gateway = lend_gateway(description)
    v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24" + bytes.fromhex("20010db8000000000000000000000007") * 2 + b"\0\1\0\1"
    headers = {
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 80\r\n": b"192.0.2.7",
        v2: b"2001:db8::7",
        b"PROXY UNKNOWN\r\n": b"127.0.0.1",
    }
    for header, address in headers.items():
        for at_once in (True, False):
            with RawClient(gateway.port) as client:
                if at_once:
                    client.send(header + b"GET /headers HTTP/1.1\r\nHost: a\r\n\r\n")
                else:
                    for byte in header:
                        client.send(bytes([byte]))
                    client.send(b"GET /headers HTTP/1.1\r\nHost: a\r\n\r\n")
                assert b"X-Forwarded-For: " + address + b"\r\n" in client.response().body
    assert turned_away(gateway.port)
    gateway.wait_for_log("no PROXY header")


def test_proxy_headers_come_before_tls(lend_gateway: Starter, start_servers: Servers, authority: Authority) -> None:
    description = site(start_servers("app1"))
    tls = {"certificates": [authority.issue("localhost").as_site()]}
    description["frontends"][0] |= {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"], "tls": tls}
    gateway = lend_gateway(description)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT) as plain:
        plain.sendall(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 443\r\n")
        with authority.client_context().wrap_socket(plain, server_hostname="localhost") as secure:
            secure.sendall(b"GET /headers HTTP/1.0\r\n\r\n")
            data = b""
            while piece := secure.recv(65536):
                data += piece
    assert b"X-Forwarded-For: 192.0.2.7\r\n" in data


def test_untrusted_peers_cannot_name_another_client(lend_gateway: Starter, start_servers: Servers) -> None:
    description = site(start_servers("app1"))
    description["frontends"][0] |= {"proxy_protocol": True, "trusted_proxies": ["192.0.2.0/24"]}
    gateway = lend_gateway(description)
    # The reset may come before the connection is there for the client.
    with suppress(ConnectionError), RawClient(gateway.port) as client:
        with suppress(ConnectionError):
            client.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read() == b""
    gateway.wait_for_log("it is not in trusted_proxies")
