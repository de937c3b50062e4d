"""TLS towards clients."""

import socket
import ssl
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar
from unittest.mock import ANY

import pytest

from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import needs, run
from tests.support.raw import LIMIT, RawClient

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
T = TypeVar("T")
Secure = tuple[GatewayProcess, Authority]


@pytest.fixture
def secure(lend_gateway: Starter, start_servers: Servers, authority: Authority) -> Secure:
    """A gateway with two certificates."""
    description = site(start_servers("app1"))
    certificates = [
        authority.issue("localhost", "127.0.0.1"),
        authority.issue("shop.example.com", "*.wild.example.com"),
    ]
    description["frontends"][0]["tls"] = {"certificates": [certificate.as_site() for certificate in certificates]}
    return lend_gateway(description), authority


def subject_names(client: RawClient) -> list[str]:
    """DNS names of the certificate that the client was shown."""
    assert isinstance(client.socket, ssl.SSLSocket)
    certificate = client.socket.getpeercert()
    assert certificate is not None
    return [str(pair[1]) for pair in certificate["subjectAltName"] if pair[0] == "DNS"]


@pytest.mark.parametrize("name, shown", [
    ("localhost", "localhost"), ("shop.example.com", "shop.example.com"), ("SHOP.example.com", "shop.example.com"),
    ("a.wild.example.com", "shop.example.com"),
])  # fmt: skip
def test_certificates_are_chosen_by_name(secure: Secure, name: str, shown: str) -> None:
    gateway, authority = secure
    with RawClient(gateway.port, authority.client_context(), name) as client:
        assert shown in subject_names(client)
        assert client.get("/bytes/10", host=name).body == b"abcdefghij"


def test_an_unknown_name_gets_the_first_certificate(secure: Secure) -> None:
    gateway, authority = secure
    context = authority.client_context()
    context.check_hostname = False
    with RawClient(gateway.port, context, "unknown.example.com") as client:
        assert "localhost" in subject_names(client)


def test_bodies_of_all_sizes_both_ways(secure: Secure) -> None:
    gateway, authority = secure
    with RawClient(gateway.port, authority.client_context()) as client:
        for size in (0, 1, 16383, 16384, 16385, 131072, 5_000_000):
            assert len(client.get(f"/bytes/{size}").body) == size
            answer = client.ask(b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
            assert answer.body == b"%d" % size
        client.send(b"GET /bytes/1000 HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
        assert [len(client.response().body) for _ in range(20)] == [1000] * 20


def test_servers_learn_that_it_was_https(secure: Secure) -> None:
    gateway, authority = secure
    with RawClient(gateway.port, authority.client_context()) as client:
        head = client.get("/headers").body
    assert b"\r\nX-Forwarded-Proto: https\r\n" in head
    assert b"proto=https" in head


def test_a_connection_ends_with_close_notify(secure: Secure) -> None:
    """A close_notify, so that a body that ends with the connection can be told from a cut one (RFC 8446 section 6.1)."""
    gateway, authority = secure
    with RawClient(gateway.port, authority.client_context()) as client:
        client.send(b"GET /close-delimited/3000 HTTP/1.0\r\nHost: a\r\n\r\n")
        data = b""
        while block := client.socket.recv(65536):  # raises SSLEOFError without a close_notify
            data += block
        assert len(data.partition(b"\r\n\r\n")[2]) == 3000


def segments_with_data(connection: socket.socket) -> int:
    """Return how many have come: tcpi_data_segs_in of tcp(7)."""
    return int(struct.unpack_from("=I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 152)[0])


def test_a_last_answer_and_the_goodbye_come_together(secure: Secure) -> None:
    gateway, authority = secure
    with RawClient(gateway.port, authority.client_context()) as client:
        assert client.get().body == b"app1"  # whatever else the handshake leaves to say has been said before
        before = segments_with_data(client.socket)
        assert client.get("/", "Connection: close").body == b"app1"
        assert client.is_closed()
        assert segments_with_data(client.socket) == before + 1


@pytest.mark.parametrize("version, works", [
    (ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_versions(secure: Secure, version: ssl.TLSVersion, works: bool) -> None:  # noqa: FBT001
    gateway, authority = secure
    context = authority.client_context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    if works:
        with RawClient(gateway.port, context) as client:
            assert client.get("/bytes/1").body == b"a"
    else:
        with pytest.raises(ssl.SSLError):
            RawClient(gateway.port, context)


def test_a_client_without_tls_is_disconnected_without_a_log_line(secure: Secure) -> None:
    gateway, authority = secure
    for garbage in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 1000):
        with RawClient(gateway.port) as client:
            client.send(garbage)
            client.read()
    with RawClient(gateway.port, authority.client_context()) as client:
        assert client.get("/bytes/1").status == 200
    assert "ERROR" not in gateway.log
    assert "Traceback" not in gateway.log


@needs("curl")
def test_curl(secure: Secure, tmp_path: Path) -> None:
    gateway, authority = secure
    out = run("curl", "-sS", "--cacert", str(authority.ca), "--resolve", f"shop.example.com:{gateway.port}:127.0.0.1",
              f"https://shop.example.com:{gateway.port}/bytes/5")  # fmt: skip
    assert out == "abcde"
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(3_000_000))
    sent = run("curl", "-sS", "--cacert", str(authority.ca), "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue",
               "-T", str(upload), "-X", "POST", gateway.url("/sink", "https"))  # fmt: skip
    assert sent == "3000000"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_worker_resumes_the_sessions_of_the_others(
    lend_gateway: Starter, start_servers: Servers, authority: Authority, version: ssl.TLSVersion
) -> None:
    description = {**site(start_servers("app1")), "workers": 2}
    description["frontends"][0]["tls"] = {"certificates": [authority.issue("localhost").as_site()]}
    gateway = lend_gateway(description)
    context = authority.client_context()
    context.maximum_version = version
    session = None
    for number in range(20):  # the kernel chooses the worker: all twenty by one of two would be chance
        plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=LIMIT)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
            client.sendall(b"GET /bytes/5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            while client.recv(65536):
                pass
            assert client.session_reused == (number > 0)
            session = client.session


def test_unsupported_protocols_are_refused(secure: Secure) -> None:
    """RFC 7301 section 3.2: an alert, instead of a guess at what the client will say."""
    gateway, authority = secure
    for offered, spoken in ((["h3", "http/1.1"], "http/1.1"), (["http/1.0"], "http/1.0")):
        context = authority.client_context()
        context.set_alpn_protocols(offered)
        with RawClient(gateway.port, context) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            assert client.socket.selected_alpn_protocol() == spoken
            assert client.get("/bytes/1").body == b"a"
    context = authority.client_context()
    context.set_alpn_protocols(["smtp"])
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        RawClient(gateway.port, context)


@pytest.mark.parametrize("suite", ["AES128-SHA", "ECDHE-RSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"])
def test_no_suite_without_forward_secrecy_and_authentication(secure: Secure, suite: str) -> None:
    gateway, authority = secure
    context = authority.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        RawClient(gateway.port, context)


@pytest.mark.parametrize("version, suite", [
    (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"), (ssl.TLSVersion.TLSv1_3, "TLS_AES_128_GCM_SHA256"),
])  # fmt: skip
def test_the_cheapest_safe_suite_is_chosen(secure: Secure, version: ssl.TLSVersion, suite: str) -> None:
    """Whatever the client likes best: OpenSSL's clients put AES with 256 bits first."""
    gateway, authority = secure
    context = authority.client_context()
    context.minimum_version = context.maximum_version = version
    with RawClient(gateway.port, context) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.cipher() == (suite, ANY, 128)


class Wire:
    """A TLS client over buffers: what it sends can be cut anywhere."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, step: Callable[[], T], cut: int) -> T:
        """Repeat a step until it needs nothing more; send in pieces of `cut` bytes."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._send(cut)
                data = self.socket.recv(65536)
                assert data, "the gateway has closed"
                self.incoming.write(data)
            else:
                self._send(cut)
                return result

    def _send(self, cut: int) -> None:
        data = self.outgoing.read()
        for at in range(0, len(data), cut):
            self.socket.send(data[at : at + cut])


@pytest.mark.parametrize("cut", [1, 4, 5, 6, 100, 5000])
def test_records_may_come_in_any_pieces(secure: Secure, cut: int) -> None:
    gateway, authority = secure
    wire = Wire(gateway.port, authority.client_context())
    with wire.socket:
        wire.run(wire.tls.do_handshake, cut)
        body = bytes(range(256)) * (100 if cut > 10 else 2)
        request = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        for at in range(0, len(request), 1000):  # many records
            wire.run(partial(wire.tls.write, request[at : at + 1000]), cut)
        answer = b""
        while body not in answer:
            answer += wire.run(partial(wire.tls.read, 65536), cut)
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_damaged_record_ends_the_connection_with_an_alert(secure: Secure) -> None:
    gateway, authority = secure
    wire = Wire(gateway.port, authority.client_context())
    with wire.socket:
        wire.run(wire.tls.do_handshake, 65536)
        wire.tls.write(b"GET /bytes/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        record = bytearray(wire.outgoing.read())
        record[-1] ^= 1
        wire.socket.sendall(record)
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
            wire.run(lambda: wire.tls.read(1), 65536)
    with RawClient(gateway.port, authority.client_context()) as client:
        assert client.get("/bytes/1").body == b"a"


@pytest.mark.parametrize("kinds", [("rsa", "ec"), ("ec", "rsa")])
def test_of_two_certificates_for_a_name_each_client_gets_the_one_it_can_check(
    lend_gateway: Starter, start_servers: Servers, authority: Authority, kinds: tuple[str, ...]
) -> None:
    """An RSA and an ECDSA certificate for one name, and a third with a name of its own."""
    pairs = [authority.issue("shop.example.com", kind=kind) for kind in kinds]
    pairs.append(authority.issue("www.example.com"))
    description = site(start_servers("app1"))
    description["frontends"][0]["tls"] = {"certificates": [pair.as_site() for pair in pairs]}
    gateway = lend_gateway(description)
    wanted = {
        "ECDHE-RSA-AES128-GCM-SHA256": pairs[kinds.index("rsa")],
        "ECDHE-ECDSA-AES128-GCM-SHA256": pairs[kinds.index("ec")],
    }
    for cipher, pair in wanted.items():
        context = authority.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(cipher)
        with RawClient(gateway.port, context, "shop.example.com") as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            shown = client.socket.getpeercert(binary_form=True)
            assert shown == ssl.PEM_cert_to_DER_cert(pair.cert.read_text())
            assert client.get("/bytes/10", host="shop.example.com").body == b"abcdefghij"
    with RawClient(gateway.port, authority.client_context(), "www.example.com") as client:
        assert subject_names(client) == ["www.example.com"]
