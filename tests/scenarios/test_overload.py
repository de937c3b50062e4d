"""Overload control and bandwidth in a whole gateway."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.scenarios.test_qos import ask, hold, order, wait
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def overloaded(
    servers: list[BackendServer], *classes: dict[str, Any], workers: int = 1, **overload: Any
) -> dict[str, Any]:
    return {**site(servers, workers), "qos": {"classes": list(classes), "overload": overload}}


def concurrency(gateway: GatewayProcess) -> dict[str, Any]:
    (backend,) = gateway.status()["backends"]
    found: dict[str, Any] = backend["concurrency"]
    return found


def outcomes(gateway: GatewayProcess) -> dict[str, int]:
    (backend,) = gateway.status()["backends"]
    found: dict[str, int] = backend["outcomes"]
    return found


def test_servers_get_no_more_at_once_over_all_workers_and_the_rest_waits(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(overloaded([server], workers=3, concurrency=2))
    held = hold(gateway, server, 2)
    waiting = wait(gateway, *["X: 1"] * 3)
    assert server.count == 2
    assert concurrency(gateway) == {"limit": 2, "why": "fixed", "base": None, "recent": None, "in_flight": 2}
    (tmp_path / "go").touch()
    assert [client.response().status for client in (*held, *waiting)] == [200] * 5
    for client in (*held, *waiting):
        client.close()
    eventually(lambda: concurrency(gateway)["in_flight"] == 0, "the counts to return")


def test_the_limit_follows_the_time_of_answers(lend_gateway: Starter, start_servers: Servers) -> None:
    servers = start_servers("app1")
    gateway = lend_gateway(overloaded(servers, workers=2, concurrency="auto"))
    assert concurrency(gateway) == {"limit": None, "why": "start", "base": None, "recent": None, "in_flight": 0}
    stop = threading.Event()
    found: Counter[int] = Counter()

    def ask_on() -> None:
        with RawClient(gateway.port) as client:
            while not stop.is_set():
                client.send(b"GET /delay/0.02 HTTP/1.1\r\nHost: a\r\n\r\n")
                found[client.response().status] += 1

    threads = [threading.Thread(target=ask_on) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: concurrency(gateway)["why"] != "start", "a limit to be learned")
        eventually(lambda: concurrency(gateway)["limit"] > 10, "the limit to grow, as this server is never slower")
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    seen = concurrency(gateway)
    assert 0.015 < seen["base"] < 0.2
    assert found.keys() == {200}
    gateway.reload(overloaded(servers, workers=2, concurrency="auto", target_delay="1s"))
    assert concurrency(gateway)["base"] == seen["base"]


def test_requests_that_wait_too_long_are_shed_with_retry_after(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (server,) = start_servers("app1")
    low = {"name": "low", "match": {"header": {"X-Class": "low"}}, "priority": 9}
    gateway = lend_gateway(overloaded([server], low, concurrency=1, target_delay="100ms"))
    held = hold(gateway, server, 1)
    began = time.monotonic()
    refused = ask(gateway, "/who", "X-Class: low")
    assert (refused.status, refused.header("Retry-After")) == (503, "5")
    assert 0.2 <= time.monotonic() - began < 5  # queue.timeout
    (tmp_path / "go").touch()
    assert held[0].response().status == 200
    held[0].close()
    assert outcomes(gateway) == {"ok": 1, "shed": 1}
    classes = {item["name"]: item for item in gateway.status()["classes"]}
    assert (classes["low"]["admitted"], classes["low"]["outcomes"]) == (0, {"shed": 1})
    assert ask(gateway, "/who", "X-Class: low").status == 200


def test_sources_take_turns(lend_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    (server,) = start_servers("app1")
    gateway = lend_gateway(overloaded([server], concurrency=1, fair_by="header:X-Tenant"))
    held = hold(gateway, server, 1)
    waiting = wait(gateway, *["X-Tenant: loud"] * 4, "X-Tenant: quiet", "X-Tenant: other", "X-Tenant: quiet")
    (tmp_path / "go").touch()
    assert [client.response().status for client in (*held, *waiting)] == [200] * 8
    for client in (*held, *waiting):
        client.close()
    assert order(server) == [0, 4, 5, 1, 6, 2, 3]


def test_a_full_queue_has_room_for_a_higher_class(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (server,) = start_servers("app1")
    high = {"name": "high", "match": {"header": {"X-Class": "high"}}, "priority": 1}
    description = overloaded([server], high, concurrency=1)
    description["backends"]["app"]["queue"] = {"limit": 2, "timeout": "30s"}
    gateway = lend_gateway(description)
    held = hold(gateway, server, 1)
    waiting = [*wait(gateway, "X: 0", "X: 1"), RawClient(gateway.port)]
    waiting[2].send(b"GET /who?2 HTTP/1.1\r\nHost: a\r\nX-Class: high\r\n\r\n")
    assert waiting[1].response().status == 503
    assert ask(gateway).status == 503
    (tmp_path / "go").touch()
    assert [client.response().status for client in (*held, waiting[0], waiting[2])] == [200] * 3
    for client in (*held, *waiting):
        client.close()
    assert order(server) == [2, 0]
    assert outcomes(gateway) == {"ok": 3, "shed": 1, "queue_full": 1}


def test_all_answers_of_a_class_share_its_bandwidth(lend_gateway: Starter, start_servers: Servers) -> None:
    """Five answers of 100 KiB at 200 KiB/s take 2.5 s, whichever workers have them; the head start of each is paid for."""
    description = site(start_servers("app1"), 2)
    shared = {"name": "slow", "match": {"header": {"X-Slow": True}}, "total_bandwidth": "200KiB/s"}
    description["qos"] = {"classes": [shared]}
    gateway = lend_gateway(description)
    sizes: list[int] = []

    def fetch(*fields: str) -> None:
        sizes.append(len(ask(gateway, "/bytes/102400", *fields).body))

    def took(*fields: str) -> float:
        began = time.monotonic()
        threads = [threading.Thread(target=fetch, args=fields) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return time.monotonic() - began

    assert took() < 1.5
    assert 2.0 < took("X-Slow: 1") < 6
    assert sizes == [102400] * 10
    with RawClient(gateway.port) as leaves:
        leaves.send(b"GET /bytes/10000000 HTTP/1.1\r\nHost: a\r\nX-Slow: 1\r\n\r\n")
        leaves.socket.recv(1000)
    eventually(lambda: outcomes(gateway).get("client_left") == 1, "the client to be missed")
    assert len(ask(gateway, "/bytes/1024", "X-Slow: 1").body) == 1024  # what it did not use is free for others


def test_new_connections_are_closed_while_memory_is_short(start_gateway: Starter, start_servers: Servers) -> None:
    description = site(start_servers("app1"), 1)
    gateway = start_gateway({**description, "qos": {"overload": {"memory": "99.9%"}}})
    with RawClient(gateway.port) as inside:
        assert inside.get("/who").status == 200
        gateway.reload({**description, "qos": {"overload": {"memory": "0.1%"}}}, says="uses load 2")
        gateway.wait_for_log("too little memory is free: .* the limit is 0.1 %: new connections are closed at once")

        def refused() -> bool:
            try:
                with RawClient(gateway.port) as late:
                    return late.get("/who").status == 0
            except OSError:
                return True

        eventually(refused, "new clients to be refused")
        assert inside.get("/who").status == 200  # who is there goes on
        report = gateway.status()
        assert report["memory"]["short"]
        assert report["frontends"][0]["turned_away"] >= 1
        gateway.wait_for_log("refused: too little memory is free")
        gateway.reload({**description, "qos": {"overload": {"memory": "off"}}}, says="uses load 3")
        gateway.wait_for_log("enough memory is free again")
    eventually(lambda: not refused(), "clients to be accepted again")


def test_an_answer_is_passed_on_at_its_bandwidth_and_others_at_once(
    lend_gateway: Starter, start_servers: Servers
) -> None:
    description = site(start_servers("app1"), 1)
    description["qos"] = {"classes": [{"name": "slow", "match": {"header": {"X-Slow": True}}, "bandwidth": "200KiB/s"}]}
    description["routes"] = [
        {"match": {"path": "/chunked/"}, "bandwidth": "100KiB/s"},
        {"backend": "app"},
    ]
    gateway = lend_gateway(description)

    def took(path: str, *fields: str) -> float:
        began = time.monotonic()
        assert len(ask(gateway, path, *fields).body) == 102400
        return time.monotonic() - began

    assert took("/bytes/102400") < 0.3
    assert 0.4 < took("/bytes/102400", "X-Slow: 1") < 1.5
    assert 0.9 < took("/chunked/102400", "X-Slow: 1") < 3  # the least counts
    with RawClient(gateway.port) as leaves:
        leaves.send(b"GET /chunked/1000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        leaves.socket.recv(1000)
    eventually(lambda: outcomes(gateway).get("client_left") == 1, "the client to be missed")
