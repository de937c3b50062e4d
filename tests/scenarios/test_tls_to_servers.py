"""TLS towards servers: verified, by name, with sessions that go on, and every failure with its name."""

import datetime as dt
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority, Certificate
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.lives import Log
from tests.support.raw import LIMIT, RawClient
from tests.support.raw_server import RawServer, Script, read_head, replies
from tests.support.tls_server import TlsServer
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Secure = Callable[..., TlsServer]

HOUR = dt.timedelta(hours=1)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ENDLESS = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"
UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
LARGE = 3_000_000


def answers(connection: socket.socket, head: bytes) -> None:
    """Answer one request after the other."""
    while head:
        connection.sendall(OK)
        head = read_head(connection)


def echoes(connection: socket.socket, head: bytes) -> None:
    """Answer each request with its body."""
    while head:
        head, _, body = head.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        parts = [body]
        left = length - len(body)
        while left:
            parts.append(connection.recv(1 << 16))
            left -= len(parts[-1])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + b"".join(parts))
        head = read_head(connection)


def says_goodbye(connection: socket.socket, _: bytes) -> None:
    """Send a body that ends with the connection, and a close_notify."""
    assert isinstance(connection, ssl.SSLSocket)
    connection.sendall(ENDLESS)
    connection.unwrap()


@pytest.fixture
def secure(authority: Authority) -> Iterator[Secure]:
    """Start a server that speaks TLS."""
    with ExitStack() as stack:

        def start(script: Script = answers, certificate: Certificate | None = None, **context: Any) -> TlsServer:
            made = authority.server_context(certificate or authority.issue("127.0.0.1", "localhost"))
            for name, value in context.items():
                setattr(made, name, value)
            return stack.enter_context(TlsServer(made, script))

        yield start


def tls(authority: Authority, **more: Any) -> dict[str, Any]:
    """The `tls:` of a backend that trusts the tests' authority."""
    return {"tls": {"ca": str(authority.ca), **more}}


def get(gateway: GatewayProcess, path: str = "/", host: str = "localhost") -> tuple[int, bytes]:
    with RawClient(gateway.port) as client:
        answer = client.get(path, host=host)
        return answer.status, answer.body


def logged(log: Log, uri: str) -> dict[str, Any]:
    """The line of the access log about a request, once it is written."""
    eventually(lambda: any(entry["uri"] == uri for entry in log.entries), f"{uri} in the log")
    found: dict[str, Any] = next(entry for entry in log.entries if entry["uri"] == uri)
    return found


@pytest.mark.parametrize("written", ["tls", "https"])
def test_requests_go_through_tls(lend_gateway: Starter, secure: Secure, authority: Authority, written: str) -> None:
    server = secure()
    description = site([server], **tls(authority))
    if written == "https":
        description["backends"]["app"]["servers"] = [{"name": "s", "address": f"https://localhost:{server.port}"}]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        assert [client.get().body for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 1
    assert server.alpn == ["http/1.1"]
    assert server.names == ([None] if written == "tls" else ["localhost"])  # an address is no name (RFC 6066)


def test_https_alone_trusts_the_authorities_of_this_machine(lend_gateway: Starter, secure: Secure) -> None:
    server = secure()
    description = site([])
    description["backends"]["app"]["servers"] = [{"name": "s", "address": f"https://127.0.0.1:{server.port}"}]
    gateway = lend_gateway(description)
    assert get(gateway)[0] == 502
    assert f"app/s (127.0.0.1:{server.port} as 127.0.0.1): tls_unknown_ca" in gateway.log
    assert server.heads == []


def test_bodies_of_all_sizes_both_ways(lend_gateway: Starter, secure: Secure, authority: Authority) -> None:
    server = secure(echoes)
    gateway = lend_gateway(site([server], **tls(authority)))
    with RawClient(gateway.port) as client:
        for size in (0, 1, 16383, 16384, 16385, 131072, LARGE):
            body = (bytes(range(256)) * (size // 256 + 1))[:size]
            assert client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body).body == body
    assert server.connections == 1


def test_a_slow_reader_of_much(lend_gateway: Starter, secure: Secure, authority: Authority) -> None:
    sent: list[int] = []

    def sends(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (20 * LARGE))
        for __ in range(20):
            connection.sendall(bytes(LARGE))
            sent.append(LARGE)

    gateway = lend_gateway(site([secure(sends)], **tls(authority)))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        got = len(client.recv(1))
        assert len(sent) < 20  # kernels hold some, the gateway next to nothing
        while piece := client.recv(1 << 20):
            got += len(piece)
        assert got > 20 * LARGE
    assert sum(sent) == 20 * LARGE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_go_on(lend_gateway: Starter, secure: Secure, authority: Authority, version: ssl.TLSVersion) -> None:
    def answers_once(connection: socket.socket, _: bytes) -> None:
        connection.sendall(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))

    server = secure(answers_once, maximum_version=version)
    gateway = lend_gateway(site([server], **tls(authority)))
    for _ in range(5):
        assert get(gateway) == (200, b"ok")
    assert server.resumed == [False, True, True, True, True]
    found = gateway.status()["backends"][0]["servers"][0]["handshakes"]
    assert found == {"full": 1, "resumed": 4}


def test_a_body_that_ends_with_the_connection_needs_a_goodbye(
    lend_gateway: Starter, secure: Secure, authority: Authority, tmp_path: Path
) -> None:
    log = Log(tmp_path)
    good, bad = secure(says_goodbye), secure(replies(ENDLESS))
    description = {**site([good], **tls(authority)), "access_log": log.section}
    description["backends"]["bad"] = {"servers": [bad.address], **tls(authority)}
    description["routes"] = [{"match": {"path": "/bad"}, "backend": "bad"}, {"backend": "app"}]
    gateway = lend_gateway(description)
    for path, outcome in (("/good", "ok"), ("/bad", "response_cut")):
        with RawClient(gateway.port) as client:
            client.send(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
            data = client.read()
            assert b"all of it" in data
            assert (b"\r\n0\r\n\r\n" in data) == (outcome == "ok")
        assert logged(log, path)["outcome"] == outcome
    assert "response_cut" in gateway.log


def test_websockets(lend_gateway: Starter, secure: Secure, authority: Authority) -> None:
    ends: list[bytes] = []

    def agrees(connection: socket.socket, _: bytes) -> None:
        connection.sendall(AGREED)
        while data := connection.recv(65536):
            connection.sendall(data)
        ends.append(b"the client's close_notify")
        assert isinstance(connection, ssl.SSLSocket)
        connection.sendall(b"bye")
        connection.unwrap()

    gateway = lend_gateway(site([secure(agrees)], **tls(authority)))
    with RawClient(gateway.port) as client:
        client.send(UPGRADE)
        assert b"101" in client.read(until=b"\r\n\r\n")
        for size in (1, 1000, 20_000):
            client.send(b"x" * size)
            got = 0
            while got < size:
                got += len(client.read(until=b"x"))
        client.end()
        assert client.read() == b"bye"
    assert ends == [b"the client's close_notify"]


# ------------------------------------------------------------------------------------------------------------- failures


def test_failures_have_names_that_say_why(
    lend_gateway: Starter, secure: Secure, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    log = Log(tmp_path)
    stranger = Authority(tmp_path / "other")
    past, future = (-3 * HOUR, -HOUR), (HOUR, 3 * HOUR)
    shows = {
        "expired": authority.issue("127.0.0.1", valid=past),
        "early": authority.issue("127.0.0.1", valid=future),
        "stranger": stranger.issue("127.0.0.1"),
        "other-name": authority.issue("www.example.com", "127.0.0.2"),
        "other-host": authority.issue("127.0.0.1", "*.example.com"),
        "old": authority.issue("127.0.0.1"),
        "wants-certificate": authority.issue("127.0.0.1"),
    }
    servers = {name: secure(answers, certificate) for name, certificate in shows.items()}
    servers["old"].context.maximum_version = ssl.TLSVersion.TLSv1_2
    asking = servers["wants-certificate"].context
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(authority.ca)
    asking.maximum_version = ssl.TLSVersion.TLSv1_2
    addresses: dict[str, str] = {name: server.address for name, server in servers.items()}
    with (
        TlsShut(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as http,
        TlsShut(b"") as shut,
    ):
        addresses |= {"http": http.address, "shut": shut.address}
        description = {**site([]), "access_log": log.section}
        backend = {"retries": {"attempts": 0}, "timeouts": {"connect": "5s"}}
        description["backends"] = {
            name: {"servers": [{"name": "s", "address": address}], **backend, **tls(authority)}
            for name, address in addresses.items()
        }
        description["backends"]["old"] |= tls(authority, min_version="1.3")
        description["backends"]["other-host"] |= tls(authority, server_name="app.internal")
        description["routes"] = [{"match": {"path": f"= /{name}"}, "backend": name} for name in addresses]
        gateway = lend_gateway(description)
        cases = {
            "expired": ("tls_expired", "certificate has expired"),
            "early": ("tls_expired", "certificate is not yet valid"),
            "stranger": ("tls_unknown_ca", "unable to get local issuer certificate"),
            "other-name": ("tls_name_mismatch", "IP address mismatch"),
            "other-host": ("tls_name_mismatch", "hostname mismatch"),
            "old": ("tls_failed", "alert protocol version"),
            "wants-certificate": ("tls_failed", "alert handshake failure"),
            "http": ("tls_not_spoken", "wrong version number"),
            "shut": ("tls_failed", "the server closed the connection"),
        }
        for name, (outcome, why) in cases.items():
            assert get(gateway, f"/{name}")[0] == 502
            entry = logged(log, f"/{name}")
            assert (entry["outcome"], entry["side"]) == (outcome, "server"), name
            line = next(line for line in gateway.log.splitlines() if entry["request_id"] in line)
            assert f": {outcome}: " in line
            assert why.lower() in line.lower()
        assert " as app.internal)" in gateway.log
        found = {item["name"]: item["outcomes"] for item in gateway.status()["backends"]}
        assert found == {name: {outcome: 1} for name, (outcome, _) in cases.items()}
        assert all(server.heads == [] for server in servers.values())


class TlsShut(RawServer):
    """Answers whatever comes first with `text`, and closes."""

    def __init__(self, text: bytes) -> None:
        super().__init__(replies(text))

    def serve(self, connection: socket.socket, number: int) -> None:  # noqa: ARG002
        """Read what there is, which has no line in it."""
        connection.recv(65536)
        self.script(connection, b"")


def test_a_handshake_has_the_time_of_a_connection(lend_gateway: Starter, secure: Secure, authority: Authority) -> None:
    """A server that accepts and says nothing delays no request, and another one is tried."""
    good = secure()
    with RawServer(replies(keep=True)) as silent:
        gateway = lend_gateway(site([silent, good], timeouts={"connect": "300ms"}, **tls(authority)))
        with RawClient(gateway.port) as client:
            assert [client.get().body for _ in range(4)] == [b"ok"] * 4
    assert "app/raw" in gateway.log
    assert "connect_timeout" in gateway.log


def test_failed_handshakes_are_tried_elsewhere(lend_gateway: Starter, secure: Secure, authority: Authority) -> None:
    """As connections that cannot be made: nothing was sent, so that any request may go to another server."""
    bad, good = secure(certificate=authority.issue("127.0.0.9")), secure(echoes)
    bad.name = "bad"
    gateway = lend_gateway(site([bad, good], **tls(authority)))
    with RawClient(gateway.port) as client:
        for _ in range(4):
            assert client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").body == b"abc"
    assert "app/bad" in gateway.log
    assert bad.heads == []


def test_without_verification_any_server_is_accepted(lend_gateway: Starter, secure: Secure, tmp_path: Path) -> None:
    server = secure(certificate=Authority(tmp_path).issue("www.example.com"))
    gateway = lend_gateway(site([server], tls={"verify": False}))
    assert get(gateway) == (200, b"ok")


def asking(secure: Secure, authority: Authority, version: ssl.TLSVersion) -> TlsServer:
    """Start a server that asks its clients for a certificate of this authority."""
    server = secure(maximum_version=version)
    server.context.verify_mode = ssl.CERT_REQUIRED
    server.context.load_verify_locations(authority.ca)
    return server


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_is_shown_to_servers_that_ask(
    lend_gateway: Starter, secure: Secure, authority: Authority, version: ssl.TLSVersion
) -> None:
    server = asking(secure, authority, version)
    own = authority.issue("gateway.example.com", kind="rsa")
    description = site([server], **tls(authority, certificate=own.as_site()))
    gateway = lend_gateway(description)
    assert get(gateway) == (200, b"ok")
    assert server.clients == [own.cert.read_text()]


def test_a_server_refuses_a_missing_certificate_after_the_handshake(
    lend_gateway: Starter, secure: Secure, authority: Authority
) -> None:
    """In TLS 1.3 the handshake is over for the client when the server looks at what it was shown."""
    server = secure(minimum_version=ssl.TLSVersion.TLSv1_3)
    server.context.verify_mode = ssl.CERT_REQUIRED
    server.context.load_verify_locations(authority.ca)
    gateway = lend_gateway(site([server], **tls(authority)))
    assert get(gateway)[0] == 502
    assert "tls_broken" in gateway.log
    assert "certificate required" in gateway.log


def test_the_name_may_be_that_which_the_client_asks_for(
    lend_gateway: Starter, secure: Secure, authority: Authority
) -> None:
    """And connections of one name are not used for another, which may lead elsewhere at the same address."""
    server = secure(certificate=authority.issue("*.example.com"))
    gateway = lend_gateway(site([server], **tls(authority, server_name="{host}")))
    for host in ("a.example.com", "B.example.com:8080", "a.example.com", "b.example.com"):
        assert get(gateway, host=host) == (200, b"ok")
    assert server.names == ["a.example.com", "b.example.com"]
    assert get(gateway, host="www.example.org")[0] == 502
    assert "tls_name_mismatch" in gateway.log


def test_a_reload_applies_the_changes(lend_gateway: Starter, secure: Secure, authority: Authority) -> None:
    server = secure(certificate=authority.issue("127.0.0.1", "www.example.com"))
    description = site([server], **tls(authority))
    gateway = lend_gateway(description)
    assert get(gateway) == (200, b"ok")
    gateway.reload(description)
    assert get(gateway) == (200, b"ok")
    assert server.connections == 1  # nothing has changed for this server
    description["backends"]["app"] |= tls(authority, server_name="www.example.com")
    gateway.reload(description)
    assert get(gateway) == (200, b"ok")
    assert server.connections == 2
    assert server.names == [None, "www.example.com"]


def test_idle_connections_are_closed_politely(lend_gateway: Starter, secure: Secure, authority: Authority) -> None:
    ends: list[bytes] = []

    def waits(connection: socket.socket, _: bytes) -> None:
        connection.sendall(OK)
        ends.append(connection.recv(1))  # raises SSLEOFError without a close_notify

    gateway = lend_gateway(site([secure(waits)], timeouts={"idle": "200ms"}, **tls(authority)))
    assert get(gateway) == (200, b"ok")
    eventually(lambda: ends == [b""], "a close_notify")


def test_a_server_s_port_that_was_closed(lend_gateway: Starter, authority: Authority) -> None:
    description = site([], **tls(authority))
    description["backends"]["app"]["servers"] = [{"name": "s", "address": f"https://127.0.0.1:{free_port()}"}]
    gateway = lend_gateway(description)
    assert get(gateway)[0] == 502
    assert "connect_refused" in gateway.log


# ----------------------------------------------------------------------------------------------------------------- checks

CHECK = {"interval": "100ms", "rise": 1, "fall": 1}


@pytest.mark.parametrize("kind", [{"http": "/check"}, {"tcp": True}])
def test_checks_speak_tls_too(
    lend_gateway: Starter, secure: Secure, authority: Authority, kind: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    shows = {
        "fine": authority.issue("127.0.0.1"),
        "expired": authority.issue("127.0.0.1", valid=(-3 * HOUR, -HOUR)),
        "stranger": Authority(tmp_path / "other").issue("127.0.0.1"),
        "other": authority.issue("127.0.0.2"),
    }
    servers = []
    for name, certificate in shows.items():
        servers.append(secure(answers, certificate))
        servers[-1].name = name
    with TlsShut(b"HTTP/1.1 400 Bad Request\r\n\r\n") as plain, TlsShut(b"") as shut:
        plain.name, shut.name = "plain", "shut"
        gateway = lend_gateway(site([*servers, plain, shut], check=kind | CHECK, **tls(authority)))
        gateway.wait_for_log("server app/fine is UP")
        gateway.wait_for_log(r"server app/expired is DOWN: TLS_EXPIRED after 1 failed check \(certificate has expired")
        gateway.wait_for_log("server app/stranger is DOWN: TLS_UNKNOWN_CA")
        gateway.wait_for_log("server app/other is DOWN: TLS_NAME_MISMATCH")
        gateway.wait_for_log("server app/plain is DOWN: TLS_NOT_SPOKEN")
        gateway.wait_for_log("server app/shut is DOWN: TLS_FAILED")
        assert get(gateway) == (200, b"ok")


def test_checks_by_the_name_that_clients_use(lend_gateway: Starter, secure: Secure, authority: Authority) -> None:
    server = secure(certificate=authority.issue("www.example.com"))
    check = {"http": "/check", "headers": {"Host": "www.example.com:8443"}, **CHECK}
    gateway = lend_gateway(site([server], check=check, **tls(authority, server_name="{host}")))
    gateway.wait_for_log("server app/secure is UP")
    assert set(server.names) == {"www.example.com"}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_checks_show_the_certificate_too(
    lend_gateway: Starter, secure: Secure, authority: Authority, version: ssl.TLSVersion
) -> None:
    """Also a new one, after a reload."""
    server = asking(secure, authority, version)
    first, second = (authority.issue("gateway.example.com") for _ in range(2))
    description = site([server], check={"http": "/check", **CHECK}, **tls(authority, certificate=first.as_site()))
    gateway = lend_gateway(description)
    gateway.wait_for_log("server app/secure is UP")
    assert set(server.clients) == {first.cert.read_text()}
    description["backends"]["app"] |= tls(authority, certificate=second.as_site())
    gateway.reload(description)
    eventually(lambda: second.cert.read_text() in server.clients, "a check with the other certificate")
    description["backends"]["app"]["tls"].pop("certificate")
    gateway.reload(description)
    # In TLS 1.3 the server says so when the handshake is over.
    gateway.wait_for_log("server app/secure is DOWN: (TLS_FAILED|HTTP_CLOSED)")
