"""TLS with clients: what is demanded of them by time, rate and route, and what they are told."""

import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.http2_client import Http2Client
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


def secure(servers: list[BackendServer], authority: Authority, workers: int = 1, **tls: object) -> dict[str, object]:
    description = site(servers, workers)
    description["frontends"][0]["tls"] = {"certificates": [authority.issue("localhost").as_site()], **tls}
    return description


def frontend_of(description: dict[str, object]) -> dict[str, object]:
    frontends = description["frontends"]
    assert isinstance(frontends, list)
    found = frontends[0]
    assert isinstance(found, dict)
    return found


# ----------------------------------------------------------------------------------------------------- time and rate


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_a_handshake_has_to_end_in_time(
    lend_gateway: Starter, start_servers: Servers, authority: Authority, said: bytes
) -> None:
    description = secure(start_servers("app1"), authority)
    frontend_of(description)["limits"] = {"header_timeout": "1s"}
    gateway = lend_gateway(description)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10.0) as client:
        client.sendall(said)
        try:
            while client.recv(4096):
                pass
        except ConnectionResetError:
            pass
    assert 0.8 < time.monotonic() - began < 5.0


def negotiates(gateway: GatewayProcess, context: ssl.SSLContext) -> bool:
    try:
        with RawClient(gateway.port, context) as client:
            return client.get("/bytes/1").body == b"a"
    except (ConnectionError, ssl.SSLError):
        return False


# Python's ssl loses the socket of a connection that was reset before its handshake could begin.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_a_source_may_begin_so_many_handshakes(
    start_gateway: Starter, start_servers: Servers, authority: Authority
) -> None:
    """In all workers together; a connection that is open is not concerned."""
    description = secure(start_servers("app1"), authority, workers=2)
    frontend_of(description)["limits"] = {"handshakes_per_source": "5/m"}
    gateway = start_gateway(description)
    context = authority.client_context()
    began = time.monotonic()
    results = [negotiates(gateway, context) for _ in range(4)]
    # `start` has connected as well, to see whether the gateway accepts.
    assert not all(results)
    assert time.monotonic() - began < 10.0
    gateway.wait_for_log("web: 127.0.0.1 refused: its source begins too many TLS handshakes")
    eventually(lambda: gateway.status()["frontends"][0]["turned_away"] > 0, "status to count it")


def test_a_rate_that_is_kept_costs_no_handshake(
    start_gateway: Starter, start_servers: Servers, authority: Authority
) -> None:
    description = secure(start_servers("app1"), authority)
    limits = {"handshakes_per_source": "50/s"}
    frontend = frontend_of(description)
    frontend["limits"] = limits
    gateway = start_gateway(description)
    context = authority.client_context()
    assert all(negotiates(gateway, context) for _ in range(20))
    # Those of a trusted proxy are the handshakes of many clients.
    frontend["limits"] = {"handshakes_per_source": "1/h"}
    frontend["trusted_proxies"] = ["127.0.0.0/8"]
    assert "reloaded" in gateway.reload(description)
    assert all(negotiates(gateway, context) for _ in range(5))


# ------------------------------------------------------------------------------------------------------------- HSTS


def test_hsts_is_in_every_response_of_the_frontend_and_of_no_other(
    lend_gateway: Starter, start_servers: Servers, authority: Authority
) -> None:
    (server,) = start_servers("app1")
    description = secure([server], authority, hsts={"max_age": "365d", "include_subdomains": True})
    plain = site([])["frontends"][0] | {"name": "plain"}
    description["frontends"] = [frontend_of(description) | {"http2": True}, plain]
    description["routes"] = [
        {"match": {"path": "/to"}, "redirect": "/"},
        {"match": {"path": "/refused"}, "respond": {"status": 403}},
        {
            "match": {"path": "/bytes/"},
            "set_response_header": {"strict-transport-security": "max-age=1"},
            "backend": "app",
        },
        {"match": {"path": "/headers"}, "backend": "app"},
    ]
    gateway = lend_gateway(description)
    value = "max-age=31536000; includeSubDomains"
    paths = ("/to", "/refused", "/bytes/1", "/headers", "/none")
    with RawClient(gateway.port, authority.client_context()) as client:
        for path in paths:
            found = [text for name, text in client.get(path).fields if name.lower() == "strict-transport-security"]
            assert found[-1] == value, path
    with Http2Client(gateway.port, authority.client_context()) as h2:
        assert h2.get("/headers").header("strict-transport-security") == value
    with RawClient(int(str(plain["listen"]).rpartition(":")[2])) as client:
        for path in ("/to", "/refused", "/headers", "/none"):
            assert client.get(path).header("Strict-Transport-Security") is None


# ------------------------------------------------------------------------------------- client certificates by route


def guarded(servers: list[BackendServer], authority: Authority) -> dict[str, object]:
    description = secure(servers, authority, client_ca=str(authority.ca))
    frontend_of(description)["http2"] = True
    description["routes"] = [
        {"match": {"path": "/bytes/"}, "require_client_cert": True},
        {"backend": "app"},
    ]
    return description


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_route_may_require_a_client_certificate(
    lend_gateway: Starter, start_servers: Servers, authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    (tmp_path / "other").mkdir()
    own = authority.issue("alice.example.com")
    strange = Authority(tmp_path / "other").issue("mallory.example.com")
    gateway = lend_gateway(guarded(start_servers("app1"), authority))
    for certificate in (None, strange, own):
        context = authority.client_context()
        context.maximum_version = version
        if certificate is not None:
            context.load_cert_chain(certificate.cert, certificate.key)
        with RawClient(gateway.port, context) as client:
            for _ in range(2):
                assert client.get("/bytes/1", "X-Client-Cert-Verify: SUCCESS").status == (
                    200 if certificate is own else 403
                )
            assert client.get("/headers").status == 200
        with Http2Client(gateway.port, context) as h2:
            assert h2.get("/bytes/1").status == (200 if certificate is own else 403)
            assert h2.get("/headers").status == 200


def test_a_route_that_requires_a_certificate_refuses_all_without_tls(
    lend_gateway: Starter, start_servers: Servers, authority: Authority
) -> None:
    description = guarded(start_servers("app1"), authority)
    plain = site([])["frontends"][0] | {"name": "plain"}
    description["frontends"] = [plain, frontend_of(description)]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        assert client.get("/bytes/1", "X-Client-Cert-Verify: SUCCESS").status == 403
        assert client.get("/headers").status == 200


# ------------------------------------------------------------------------------------------- HTTP/2 that is withdrawn


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_a_reload_without_http2_sends_goaway_and_finishes_requests(
    lend_gateway: Starter, start_servers: Servers, authority: Authority, kind: str
) -> None:
    tls = kind == "tls"
    servers = start_servers("app1")
    description = secure(servers, authority) if tls else site(servers)
    frontend_of(description)["http2"] = True
    gateway = lend_gateway(description)
    context = authority.client_context() if tls else None
    with Http2Client(gateway.port, context) as client, Http2Client(gateway.port, context) as idle:
        assert idle.get("/bytes/1").status == 200
        slow = client.begin("/drip/20/0.1")
        client.until(lambda: client.answers[slow].status == 200, "the head of the slow response")
        changed = json.loads(json.dumps(description))
        changed["frontends"][0]["http2"] = False
        assert "reloaded" in gateway.reload(changed)
        client.until(lambda: len(client.goaways) == 1, "the first GOAWAY")
        assert client.goaways[0] == (2**31 - 1, 0)
        late = client.begin("/bytes/3")  # it was on its way
        assert client.wait(late).body == b"abc"
        client.until(lambda: len(client.goaways) == 2, "the second GOAWAY")
        assert client.goaways[1] == (late, 0)
        assert client.wait(slow).body == b"abcdefghijklmnopqrst"
        client.until_closed()
        idle.until_closed()
        assert {code for _, code in idle.goaways + client.goaways} == {0}
    if context is not None:
        context.set_alpn_protocols(["h2", "http/1.1"])
    with RawClient(gateway.port, context) as one:
        assert one.get("/bytes/1").body == b"a"


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_a_slow_reader_gets_the_end_of_its_last_answer(
    lend_gateway: Starter, start_servers: Servers, authority: Authority, kind: str
) -> None:
    """Its WINDOW_UPDATE would make the kernel reset a connection that was closed before all had been read."""
    servers = start_servers("app1")
    description = secure(servers, authority) if kind == "tls" else site(servers)
    frontend_of(description)["http2"] = True
    gateway = lend_gateway(description)
    size = 100_000  # the kernels take all of it: 50 kB and more there, the rest here
    with Http2Client(gateway.port, authority.client_context() if kind == "tls" else None, window=size) as client:
        assert client.get("/bytes/1").status == 200
        client.connection.increment_flow_control_window(size)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        slow = client.begin(f"/bytes/{size}")
        eventually(lambda: servers[0].count == 2, "the request to be at the server")
        changed = json.loads(json.dumps(description))
        changed["frontends"][0]["http2"] = False
        gateway.reload(changed)
        time.sleep(3.0)  # longer than the gateway waits for a client that has read everything
        assert len(client.wait(slow).body) == size
        client.until_closed()
        assert {code for _, code in client.goaways} == {0}
