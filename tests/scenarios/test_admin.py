"""Figures and probes of a whole gateway, asked over HTTP."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.connections import worker_of
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.raw_server import RawServer, replies
from tests.support.waiting import answers, eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
TOKEN = "0123456789abcdef0123"


class Asked:
    """The listener for operators at a port of this machine."""

    def __init__(self, directory: Path, **admin: Any) -> None:
        self.port = free_port()
        self.section = {"sockets": str(directory), "listen": f"127.0.0.1:{self.port}", **admin}

    def status(self, path: str, **fields: str) -> int:
        """0: no process listens."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=fields).status_code
        except httpx.TransportError:
            return 0

    def figures(self) -> dict[tuple[str, ...], float]:
        """Each sample by the metric's name and the values of its labels; none if no process listens."""
        try:
            page = httpx.get(f"http://127.0.0.1:{self.port}/metrics").raise_for_status().text
        except httpx.TransportError:
            return {}
        families = text_string_to_metric_families(page)
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}

    def figure(self, *name: str) -> float | None:
        return self.figures().get(name)


def test_metrics_of_traffic(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    description = {**site(start_servers("app1"), workers=2), "admin": asked.section}
    description["frontends"][0]["name"] = "web"
    description["frontends"][0]["limits"] = {"connections_per_source": 3}
    description["routes"] = [{"match": {"path": "/here"}, "respond": {"status": 404}}, {"backend": "app"}]
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client, RawClient(gateway.port) as other:
        for path in ("/bytes/100", "/status/503", "/here", "/delay/0.2"):
            client.get(path)
        assert other.ask(b"garbage\r\n\r\n").status == 400
        eventually(lambda: asked.figure("gateway_frontend_connections", "web") == 1, "the other to be gone")
    with RawClient(gateway.port) as client, RawClient(gateway.port) as other, RawClient(gateway.port) as leaver:
        client.get("/here")
        other.get()
        leaver.send(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
        eventually(lambda: asked.figure("gateway_server_in_flight", "app", "app1") == 1, "the upload to begin")
        with contextlib.suppress(ConnectionResetError), RawClient(gateway.port) as fourth:
            assert fourth.is_closed()
        eventually(lambda: asked.figure("gateway_frontend_turned_away_total", "web") == 1, "one to be refused")
    eventually(lambda: asked.figure("gateway_frontend_connections", "web") == 0, "all to have left")

    found = asked.figures()
    for kind, what, counts in (
        ("frontend web", "request", [0, 3, 0, 3, 1]),
        ("backend app", "response", [0, 3, 0, 0, 1]),
    ):
        of, name = kind.split()
        codes = [f"{digit}xx" for digit in range(1, 6)]
        assert [found[f"gateway_{of}_responses_total", name, code] for code in codes] == counts
        assert found[f"gateway_{of}_unanswered_total", name] == 1
        assert found[f"gateway_{of}_received_bytes_total", name] == 5
        durations = f"gateway_{of}_{what}_duration_seconds"
        assert found[f"{durations}_count", name] == sum(counts) + 1
        assert found[f"{durations}_sum", name] > 0.2
        assert found[f"{durations}_bucket", name, "+Inf"] - found[f"{durations}_bucket", name, "0.1"] >= 1
    assert (
        found["gateway_frontend_connections_total", "web"] >= 6
    )  # the test harness looked whether the gateway listens, too
    assert found["gateway_frontend_max_connections", "web"] == 10000

    # What a killed worker had open is gone; what it has counted is not.
    with RawClient(gateway.port) as client:
        client.get("/here")
        eventually(lambda: asked.figure("gateway_frontend_connections", "web") == 1, "the client to be counted")
        gateway.kill_worker(worker_of(gateway, client))
        eventually(lambda: asked.figure("gateway_frontend_connections", "web") == 0, "its connections to be forgotten")
    assert asked.figure("gateway_frontend_responses_total", "web", "4xx") == 4

    description["frontends"][0]["name"] = "another"
    gateway.reload(description)
    eventually(lambda: asked.figure("gateway_frontend_connections_total", "another") == 0, "a new one to begin at zero")
    assert asked.figure("gateway_frontend_connections_total", "web") is None
    assert asked.figure("gateway_backend_responses_total", "app", "5xx") == 1


def test_a_tunnel_is_no_slow_answer(start_gateway: Starter, tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
    with RawServer(replies(agreed, keep=True)) as server:
        description = {**site([server]), "admin": asked.section}
        description["frontends"][0]["name"] = "web"
        gateway = start_gateway(description)
        with RawClient(gateway.port) as client:
            start = time.monotonic()
            assert client.get("/", "Connection: upgrade", "Upgrade: echo").status == 101
            took = time.monotonic() - start
            time.sleep(took + 0.2)  # however long a tunnel stands, it was quick to be opened
        eventually(lambda: asked.figure("gateway_frontend_responses_total", "web", "1xx") == 1, "the tunnel to end")
        assert asked.figures()["gateway_frontend_request_duration_seconds_sum", "web"] <= took
        assert asked.figures()["gateway_backend_response_duration_seconds_sum", "app"] <= took


def test_figures_of_a_gateway_at_work(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    servers = start_servers("app1", "app2")
    description = {**site(servers, workers=2, check={"http": "/", "interval": "100ms"}), "admin": asked.section}
    gateway = start_gateway(description)
    eventually(lambda: asked.status("/readyz") == 200, "the gateway to be ready")
    assert asked.status("/healthz") == 200
    with RawClient(gateway.port) as client:
        for path in ("/who", "/who", "/status/503", "/who"):
            client.get(path)
    eventually(lambda: asked.figure("gateway_server_requests_total", "app", "app2") == 2, "the requests to be counted")
    found = asked.figures()
    assert found["gateway_server_requests_total", "app", "app1"] == 2
    assert found["gateway_server_failures_total", "app", "app1"] == 1
    assert found["gateway_server_failures_total", "app", "app2"] == 0
    assert found["gateway_server_request_seconds_total", "app", "app1"] > 0
    assert found["gateway_server_sent_bytes_total", "app", "app1"] > 0
    assert found["gateway_server_up", "app", "app1"] == found["gateway_ready",] == 1
    assert found["gateway_process_resident_memory_bytes", "worker 1"] > 1_000_000
    assert found["gateway_site_version",] == 1

    gateway.write("frontends: nonsense")
    gateway.process.send_signal(signal.SIGHUP)
    eventually(lambda: asked.figure("gateway_reloads_total", "refused") == 1, "the refusal to be counted")
    assert asked.figure("gateway_site_last_reload_success") == 0
    gateway.reload(description)
    eventually(lambda: asked.figure("gateway_site_version") == 2, "control to go over")
    found = asked.figures()
    assert found["gateway_reloads_total", "accepted"] == found["gateway_site_last_reload_success",] == 1

    for server in servers:
        server.kill()
    eventually(lambda: asked.status("/readyz") == 503, "the gateway not to be ready")
    assert asked.status("/healthz") == 200
    gateway.wait_for_log("not ready: every server of every backend is down")
    pid = gateway.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: asked.status("/healthz") == 503, "the stopped worker to be noticed")
    assert asked.figure("gateway_worker_up", "0") == 0
    gateway.kill(pid)
    eventually(lambda: asked.status("/healthz") == 200, "the next worker to work")
    eventually(lambda: asked.figure("gateway_process_deaths_total", "worker 0") == 1, "its death to be counted")


def test_it_comes_goes_and_moves_with_the_site_file_and_outlives_an_upgrade(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    without = site(start_servers("app1"))
    one, other = Asked(tmp_path), Asked(tmp_path)
    gateway = start_gateway(without)
    assert one.status("/healthz") == 0
    gateway.reload({**without, "admin": one.section})
    eventually(lambda: one.status("/readyz") == 200, "it to come")
    gateway.reload({**without, "admin": other.section})
    eventually(lambda: other.status("/readyz") == 200, "it to move")
    assert one.status("/healthz") == 0
    gateway.kill_control()
    eventually(lambda: other.status("/readyz") == 200, "the next control to answer")
    gateway.reload(without)
    eventually(lambda: not answers("127.0.0.1", other.port), "it to go")
    gateway.reload({**without, "admin": one.section})
    eventually(lambda: one.status("/readyz") == 200, "it to come back")
    before = one.figure("gateway_start_time_seconds") or 0
    gateway.upgrade()
    eventually(lambda: (one.figure("gateway_start_time_seconds") or 0) > before, "the new gateway to answer")
    assert one.status("/readyz") == 200


def test_a_token(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "admin.token"
    file.touch(mode=0o600)
    file.write_text(f"{TOKEN}\n")
    asked = Asked(tmp_path, token_file=str(file))
    asked.section["listen"] = f"0.0.0.0:{asked.port}"
    description = {**site(start_servers("app1")), "admin": asked.section}
    gateway = start_gateway(description)
    eventually(lambda: asked.status("/readyz") == 200, "the probes to answer without it")
    assert asked.status("/metrics") == 401
    assert asked.status("/metrics", Authorization="Bearer 0123456789abcdef0124") == 401
    assert asked.status("/metrics", Authorization=f"Bearer {TOKEN}") == 200
    url = f"http://127.0.0.1:{asked.port}/api/v1/events"
    with httpx.stream("GET", url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10) as events:
        lines = events.iter_lines()
        assert next(lines).startswith("data: ")
        file.write_text("another token, as long\n")
        gateway.reload(description)
        began = time.monotonic()
        for _ in lines:
            assert time.monotonic() < began + 10, "events of the old token go on"
    eventually(lambda: asked.status("/metrics", Authorization="Bearer another token, as long") == 200, "the new token")
    assert asked.status("/metrics", Authorization=f"Bearer {TOKEN}") == 401
    file.chmod(0o644)
    assert "reload refused" in gateway.reload(description)
    gateway.wait_for_log(f"other users can read {file}")


def test_tls_with_client_certificates(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path, authority: Authority
) -> None:
    pair, deploy = authority.issue("127.0.0.1"), authority.issue("deploy.example")
    asked = Asked(tmp_path, operators=[{"name": "deploy", "client_cert": "deploy.example"}])
    asked.section["tls"] = {**pair.as_site(), "client_ca": str(authority.ca)}
    gateway = start_gateway({**site(start_servers("app1")), "admin": asked.section})
    url = f"https://127.0.0.1:{asked.port}"
    client = authority.client_context()

    def serial() -> str:
        with (
            socket.create_connection(("127.0.0.1", asked.port), 10) as sock,
            client.wrap_socket(sock, server_hostname="127.0.0.1") as secured,
        ):
            return str((secured.getpeercert() or {})["serialNumber"])

    eventually(lambda: answers("127.0.0.1", asked.port), "the listener")
    assert httpx.get(f"{url}/readyz", verify=client).status_code == 200
    assert httpx.get(f"{url}/metrics", verify=client).status_code == 401
    assert asked.status("/readyz") == 0
    client.load_cert_chain(deploy.cert, deploy.key)
    assert httpx.get(f"{url}/api/v1/whoami", verify=client).json() == {"name": "deploy", "role": "operate"}
    assert httpx.post(f"{url}/api/v1/drain", json={"target": "app"}, verify=client).status_code == 200
    assert httpx.get(f"{url}/api/v1/audit", verify=client).json()[0]["who"] == "deploy"
    assert str(pair.cert) in httpx.get(f"{url}/api/v1/certificates", verify=client).text

    # Changed files are taken up without a reload; a broken one leaves the previous one in use.
    before, new = serial(), authority.issue("127.0.0.1")
    pair.key.write_bytes(new.key.read_bytes())
    pair.cert.write_bytes(new.cert.read_bytes())
    eventually(lambda: serial() != before, "the new certificate")
    before = serial()
    pair.cert.write_text("none")
    gateway.wait_for_log("certificate refused: .*the previous one stays in use")
    assert serial() == before
    with httpx.stream("GET", f"{url}/api/v1/events", verify=client, timeout=10) as events:
        lines = events.iter_lines()
        assert next(lines).startswith("data: ")
        pair.cert.write_bytes(new.cert.read_bytes())
        asked.section["operators"][0]["client_cert"] = "another.example"
        gateway.reload({**gateway.site, "admin": asked.section})
        began = time.monotonic()
        for _ in lines:
            assert time.monotonic() < began + 10, "events of a certificate that is not known go on"


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_a_page_that_a_browser_was_led_to_is_refused(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path, path: str
) -> None:
    asked = Asked(tmp_path)
    start_gateway({**site(start_servers("app1")), "admin": asked.section})
    eventually(lambda: asked.status(path) == 200, "it to answer")
    assert asked.status(path, Host="rebound.example") == 403
