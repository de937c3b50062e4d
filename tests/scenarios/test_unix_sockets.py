"""A frontend on a Unix socket: it carries what a port carries, and outlives what may happen to processes."""

import copy
import os
import re
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from psutil import Process

from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.load import Load
from tests.support.programs import needs, run
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the socket is."""
    return str(tmp_path / "http.sock")


def described(servers: list[BackendServer], path: str, workers: int = 1) -> dict[str, Any]:
    """A site with a port, and the same at a Unix socket."""
    found = site(servers, workers)
    found["frontends"][0]["listen"] = [found["frontends"][0]["listen"], f"unix:{path}"]
    return found


def listens(path: str) -> bool:
    """Tell whether a process accepts connections at this path."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


def gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@needs("curl")
def test_requests_come_by_it_beside_a_port(start_gateway: Starter, start_servers: Servers, path: str) -> None:
    gateway = start_gateway(described(start_servers("app1"), path))
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o660
    gateway.wait_for_log("ready: ")
    assert f"http://127.0.0.1:{gateway.port}, unix:{path}, 1 worker" in gateway.log
    head = run("curl", "-sS", "--unix-socket", path, "http://www.example.com/headers")
    assert "\nHost: www.example.com\n" in head
    assert run("curl", "-sS", gateway.url("/bytes/10")) == "abcdefghij"


@needs("curl")
def test_tls(start_gateway: Starter, start_servers: Servers, authority: Authority, path: str) -> None:
    description = site(start_servers("app1"))
    certificates = [authority.issue("shop.example.com").as_site()]
    description["frontends"][0] |= {"listen": f"unix:{path}", "tls": {"certificates": certificates}}
    gateway = start_gateway(description)
    gateway.wait_for_log("ready: unix:")
    head = run(
        "curl", "-sS", "--cacert", str(authority.ca), "--unix-socket", path, "https://shop.example.com/headers"
    )  # fmt: skip
    assert "\nX-Forwarded-Proto: https\n" in head


def test_client_there_has_no_address(lend_gateway: Starter, start_servers: Servers, path: str) -> None:
    description = {
        **described(start_servers("app1"), path),
        "routes": [
            {"match": {"source": ["0.0.0.0/0", "::/0"]}, "respond": {"status": 403}},
            {"backend": "app"},
        ],
    }
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        assert client.get().status == 403
    with RawClient(path) as client:
        head = client.get("/headers", "X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6", host="a.example").body
        assert b"6.6.6.6" not in head
        assert b"x-forwarded-for" not in head.lower()
        assert b'\r\nForwarded: for=unknown;proto=http;host="a.example"\r\n' in head
        # An old client names no host.
        assert b"\r\nHost: localhost\r\n" in client.ask(b"GET /headers HTTP/1.0\r\n\r\n").body


def test_reloads_and_the_death_of_a_worker_lose_no_new_client(
    start_gateway: Starter, start_servers: Servers, path: str
) -> None:
    servers = start_servers("app1")
    gateway = start_gateway(described(servers, path, workers=2))
    description = gateway.site
    file = Path(path).stat().st_ino
    with Load(path, clients=8, fields=("Connection: close",)) as load:
        load.wait_for(100)
        for workers in (1, 3, 2):
            assert "reloaded" in gateway.reload({**description, "workers": workers})
            load.wait_for(100)
        assert load.failures == []
        old = gateway.kill_worker(0)
        eventually(lambda: gateway.workers().get(0, old) != old, "another worker to be started")
        load.wait_for(200)
    # What the worker had accepted is lost with it, at most one request of each client; who came later was let in.
    assert len(load.failures) <= 8
    assert [failure for failure in load.failures if re.search("refused|No such file", failure.why)] == []
    assert Path(path).stat().st_ino == file


def test_it_comes_and_goes_with_its_address(start_gateway: Starter, start_servers: Servers, path: str) -> None:
    servers = start_servers("app1")
    both = described(servers, path)
    other = f"{path}2"
    without = copy.deepcopy(both)
    del without["frontends"][0]["listen"][1]
    gateway = start_gateway(without)
    assert "reloaded" in gateway.reload(both)
    with RawClient(path) as client:
        assert client.get().status == 200
    moved = copy.deepcopy(both)
    moved["frontends"][0] |= {"listen": [both["frontends"][0]["listen"][0], f"unix:{other}"], "socket_mode": "0600"}
    assert "reloaded" in gateway.reload(moved)
    assert (Path(path).exists(), listens(other)) == (False, True)
    moved["frontends"][0]["socket_mode"] = "0606"
    assert "reloaded" in gateway.reload(moved)
    assert stat.S_IMODE(Path(other).stat().st_mode) == 0o606
    assert "reloaded" in gateway.reload(without)
    assert not Path(other).exists()
    assert "reloaded" in gateway.reload(both)
    assert gateway.terminate() == 0
    assert not Path(path).exists()


def test_upgrades_hand_it_over(start_gateway: Starter, start_servers: Servers, path: str) -> None:
    both = described(start_servers("app1"), path, workers=2)
    both["frontends"].append({"name": "going", "listen": f"unix:{path}2"})
    gateway = start_gateway(both)
    file = Path(path).stat().st_ino
    with Load(path, clients=8) as load:
        load.wait_for(100)
        # One that fails takes nothing along, not even what its site file no longer names.
        elsewhere = {"name": "elsewhere", "listen": [f"unix:{path}3", "192.0.2.1:1"]}
        gateway.write({**both, "frontends": [both["frontends"][0], elsewhere]})
        since = len(gateway.log)
        gateway.process.send_signal(signal.SIGUSR2)
        gateway.wait_for_log(r"upgrade failed: .*cannot listen on 192\.0\.2\.1", since)
        load.wait_for(100)
        tree = Process(gateway.process.pid)
        eventually(lambda: len(tree.children()) == 3, "the failed one to be gone")  # control and two workers stay
        assert (listens(path), listens(f"{path}2"), Path(f"{path}3").exists()) == (True, True, False)
        gateway.write({**both, "frontends": both["frontends"][:1], "workers": 3})
        new = gateway.upgrade()
        assert gateway.wait() == 0
        eventually(lambda: not Path(f"{path}2").exists(), "the address that went to be removed")
        load.wait_for(100)
    assert load.failures == []
    assert Path(path).stat().st_ino == file
    os.kill(new, signal.SIGTERM)
    eventually(lambda: gone(new), "the new one to end")
    assert not Path(path).exists()


def test_what_a_killed_gateway_left_is_replaced(start_gateway: Starter, start_servers: Servers, path: str) -> None:
    gateway = start_gateway(described(start_servers("app1"), path))
    workers = gateway.workers().values()
    gateway.kill(gateway.process.pid)
    eventually(lambda: all(map(gone, workers)), "the workers to notice and to end")
    assert Path(path).exists()
    assert not listens(path)
    gateway.wait()
    gateway.start()
    with RawClient(path) as client:
        assert client.get().status == 200


def test_what_is_in_use_is_refused(lend_gateway: Starter, start_servers: Servers, path: str) -> None:
    without = site(start_servers("app1"))
    both = copy.deepcopy(without)
    both["frontends"].append({"listen": f"unix:{path}"})
    gateway = lend_gateway(without)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        gateway.reload(both, "reload refused")
        assert f"cannot listen on unix:{path}: another process is using it" in gateway.log
        other.accept()[0].close()  # the look at it
    Path(path).unlink()
    Path(path).write_text("important")
    gateway.reload(both, "reload refused")
    assert f"cannot listen on unix:{path}: there is a file that is no socket; it is left alone" in gateway.log
    assert Path(path).read_text() == "important"


def test_proxies_there_are_believed_if_the_site_says_so(
    lend_gateway: Starter, start_servers: Servers, path: str
) -> None:
    description = described(start_servers("app1"), path)
    description["frontends"][0]["trusted_proxies"] = ["unix"]
    description["routes"] = [
        {"match": {"source": "192.0.2.0/24"}, "respond": {"status": 410}},
        {"backend": "app"},
    ]
    gateway = lend_gateway(description)
    with RawClient(path) as client:
        assert client.get("/headers", "X-Forwarded-For: 192.0.2.7").status == 410
        head = client.get("/headers", "X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https").body
        assert b"\r\nX-Forwarded-For: 198.51.100.7\r\n" in head
        assert b"\r\nX-Forwarded-Proto: https\r\n" in head
        assert b"x-forwarded-for" not in client.get("/headers").body.lower()
    with RawClient(gateway.port) as client:
        assert client.get("/headers", "X-Forwarded-For: 192.0.2.7").status == 200


@pytest.mark.parametrize("tls", [False, True])
def test_proxy_header_names_the_client(
    start_gateway: Starter, start_servers: Servers, authority: Authority, path: str, tls: bool  # noqa: FBT001
) -> None:  # fmt: skip
    description = site(start_servers("app1"))
    description["frontends"][0] |= {"listen": f"unix:{path}", "trusted_proxies": ["unix"], "proxy_protocol": True}
    if tls:
        description["frontends"][0]["tls"] = {"certificates": [authority.issue("localhost").as_site()]}
    start_gateway(description).wait_for_log("ready: ")
    for header, named in (
        (b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 443\r\n", b"\r\nX-Forwarded-For: 192.0.2.7\r\n"),
        (b"PROXY UNKNOWN\r\n", b"\r\nForwarded: for=unknown;"),
    ):
        with RawClient(path, authority.client_context() if tls else None, before=header) as client:
            assert named in client.get("/headers").body


def test_clients_there_are_not_one_source(start_gateway: Starter, start_servers: Servers, path: str) -> None:
    description = described(start_servers("app1"), path)
    description["frontends"][0]["limits"] = {"connections_per_source": 1}
    start_gateway(description).wait_for_log("ready: ")
    with RawClient(path) as one, RawClient(path) as two, RawClient(path) as three:
        assert [client.get().status for client in (one, two, three)] == [200] * 3
