"""Counters of /metrics go on over a reload, the death of a worker and upgrades, as Prometheus would see them."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.scenarios.test_tickets import connect
from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import needs
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
Figures = dict[tuple[str, ...], float]

OF_A_PROCESS = ("gateway_process_cpu_seconds_total",)
"""Counters that begin with their process."""


def figures(port: int) -> Figures:
    """Every sample, by name and the values of its labels."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def counters(found: Figures) -> Figures:
    ends = ("_total", "_count", "_sum", "_bucket")
    return {name: value for name, value in found.items() if name[0].endswith(ends) and name[0] not in OF_A_PROCESS}


def at_last(port: int, wanted: Figures) -> Figures:
    """All figures, once those that are wanted are so: a page of metrics may be a moment old."""
    found: Figures = {}

    def are() -> bool:
        found.update(figures(port))
        return {name: found.get(name) for name in wanted} == wanted

    try:
        eventually(are, "the figures", 10.0)
    except AssertionError:
        assert {name: found.get(name) for name in wanted} == wanted
        raise
    return found


def ask(port: int, count: int, path: str = "/bytes/10") -> None:
    with RawClient(port) as client:
        for _ in range(count):
            assert client.get(path).status == 200


@contextmanager
def never_less(port: int) -> Iterator[Callable[[], Figures]]:
    """What the function yields, each time it is called, has every counter of the time before, none of them smaller."""
    before: Figures = {}

    def now() -> Figures:
        found = figures(port)
        lost = {name: (value, found.get(name)) for name, value in before.items() if found.get(name, -1) < value}
        assert lost == {}
        before.update(counters(found))
        return found

    yield now


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_counters_go_on(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    (server,) = start_servers("app1")
    admin = free_port()
    described: dict[str, Any] = {**site([server], workers=1), "drain": "20s"}
    described["admin"] = {"sockets": str(tmp_path), "listen": f"127.0.0.1:{admin}"}
    gateway = start_gateway(described)
    answered = ("gateway_frontend_responses_total", "2xx", "web")
    at_server = ("gateway_server_requests_total", "app", "app1")
    fresh = ("gateway_server_connections_opened_total", "app", "app1")
    reused = ("gateway_server_connections_reused_total", "app", "app1")
    with never_less(admin) as now:
        ask(gateway.port, 5)
        at_last(admin, {answered: 5, at_server: 5, fresh: 1, reused: 4})
        now()
        gateway.reload(described | {"node": "other"}, "worker 0 uses load 2")
        ask(gateway.port, 1)
        at_last(admin, {answered: 6})
        now()
        killed = gateway.kill_worker(0)
        eventually(lambda: gateway.workers().get(0, killed) != killed, "the new worker")
        ask(gateway.port, 2)
        reloads, deaths = ("gateway_reloads_total", "accepted"), ("gateway_process_deaths_total", "worker 0")
        at_last(admin, {answered: 8, at_server: 8, reloads: 1, deaths: 1})
        now()
        with RawClient(gateway.port) as slow:
            slow.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
            eventually(lambda: server.count == 9, "the request to arrive")
            old = gateway.process.pid
            second = gateway.upgrade()
            for _ in range(2):  # the old gateway may still accept one, and closes after it
                ask(gateway.port, 1)
            eventually(lambda: now()[answered] == 10, "the new gateway to count from there")
            assert now()["gateway_server_in_flight", "app", "app1"] == 0  # that one is the old gateway's
            slow.reset()
        # The client has left: the old gateway counts that, and ends.
        left = ("gateway_frontend_outcomes_total", "web", "client_left", "client")
        eventually(lambda: now().get(left) == 1, "the end of the old gateway's last request to be counted")
        eventually(lambda: gone(old), "the old gateway to end", 30.0)
        assert gateway.wait() == 0
        since = len(gateway.log)
        os.kill(second, signal.SIGUSR2)
        eventually(lambda: "has taken over" in gateway.log[since:], "the next upgrade")
        eventually(lambda: gone(second), "the second gateway to end", 30.0)
        for _ in range(3):
            ask(gateway.port, 1)
        durations = ("gateway_backend_response_duration_seconds_count", "app")
        at_last(admin, {answered: 13, at_server: 14, left: 1, reloads: 1, deaths: 1, durations: 14})
        now()


def test_retries_by_cause_and_the_pool(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    servers = start_servers("app1", "app2")
    admin = free_port()
    described: dict[str, Any] = site(
        servers, balance="round-robin", retries={"on": ["connect", "503"], "budget": "100%"}
    )
    described["admin"] = {"sockets": str(tmp_path), "listen": f"127.0.0.1:{admin}"}
    gateway = start_gateway(described)
    with RawClient(gateway.port) as client:
        assert client.get("/status/503").status == 503  # both servers say so
        servers[0].kill()
        for _ in range(4):
            assert client.get("/bytes/1").status == 200
    found = at_last(admin, {("gateway_backend_retries_total", "app", "status"): 1})
    retries = {name[2]: value for name, value in found.items() if name[0] == "gateway_backend_retries_total"}
    assert retries["connect"] + retries["stale"] >= 1
    assert (retries["tls"], retries["reset"]) == (0, 0)


def test_the_depth_of_a_queue_and_the_time_in_it(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    (server,) = start_servers("app1")
    admin = free_port()
    described: dict[str, Any] = site([], workers=1)
    limited = {"name": server.name, "address": server.address, "max_connections": 1}
    described["backends"] = {"app": {"servers": [limited], "queue": {"limit": 10, "timeout": "10s"}}}
    described["admin"] = {"sockets": str(tmp_path), "listen": f"127.0.0.1:{admin}"}
    gateway = start_gateway(described)
    with RawClient(gateway.port) as first, RawClient(gateway.port) as second:
        first.send(b"GET /when/go HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: server.count == 1, "the first request to arrive")
        second.send(b"GET /when/go HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: figures(admin)["gateway_backend_queued", "app"] == 1, "the second one to wait")
        began = time.monotonic()
        time.sleep(0.06)  # so that the wait is in a cell of its own
        (tmp_path / "go").touch()
        assert (first.response().status, second.response().status) == (200, 200)
        waited = time.monotonic() - began
    found = at_last(admin, {("gateway_backend_queued", "app"): 0})
    waits = "gateway_backend_queue_duration_seconds"
    assert found[f"{waits}_count", "app"] == found[f"{waits}_bucket", "app", "+Inf"] == 1
    assert found[f"{waits}_bucket", "app", "0.05"] == 0
    assert found[f"{waits}_sum", "app"] > 0.05
    assert waited > 0.05


@needs("openssl")
def test_handshakes_of_clients(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path, authority: Authority
) -> None:
    """Full and resumed ones, of both versions of TLS; a handshake that fails is neither. All go on over an upgrade."""
    admin = free_port()
    described: dict[str, Any] = site(start_servers("app1"), workers=1)
    described["frontends"][0]["tls"] = {"certificates": [authority.issue("localhost").as_site()]}
    described["admin"] = {"sockets": str(tmp_path), "listen": f"127.0.0.1:{admin}"}
    gateway = start_gateway(described)

    def are(full: int, resumed: int) -> None:
        names = [(f"gateway_frontend_tls_{kind}_handshakes_total", "web") for kind in ("full", "resumed")]
        at_last(admin, dict(zip(names, (full, resumed), strict=True)))

    for count, version in enumerate(("tls1_2", "tls1_3"), 1):
        session = tmp_path / version
        connect(gateway.port, version, None, session)
        assert connect(gateway.port, version, session, tmp_path / "again") is True
        are(count, count)
    failed = ("gateway_frontend_tls_handshakes_failed_total", "web", "other")

    def fail() -> None:
        with RawClient(gateway.port) as client:
            client.send(b"\x16\x03\x01\x00\x05hello")
            client.read()

    fail()
    at_last(admin, {failed: 1})
    are(2, 2)
    gateway.upgrade()
    fail()
    at_last(admin, {failed: 2})
    are(2, 2)
