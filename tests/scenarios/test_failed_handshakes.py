"""TLS handshakes of clients that fail: each is counted and logged with its reason."""

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

ADMIN = free_port()
HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"
"""A record with a ClientHello that is too short."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[GatewayProcess]:
    """Two entrances: one wants certificates of clients, one is strict about names."""
    description = site([])
    (first,) = description["frontends"]
    tls = {"certificates": [authority.issue("localhost").as_site()], "min_version": "1.3", "strict_sni": True}
    first |= {"name": "strict", "tls": tls, "limits": {"header_timeout": "400ms"}}
    asks = {"certificates": tls["certificates"], "client_ca": str(authority.ca), "require_client_cert": True}
    second = {"name": "asks", "listen": f"127.0.0.1:{free_port()}", "tls": asks}
    description["frontends"].append(second)
    description["backends"] = {"app": {"servers": [f"127.0.0.1:{free_port()}"]}}
    description["routes"] = [{"respond": {"body": "hello"}}]
    directory = tmp_path_factory.mktemp("gateway")
    description["admin"] = {"sockets": str(directory), "listen": f"127.0.0.1:{ADMIN}"}
    with GatewayProcess(directory, description) as started:
        yield started


def failed() -> dict[str, int]:
    """The numbers of failed handshakes by the labels of their metric."""
    with RawClient(ADMIN) as client:
        page = client.get("/metrics").body.decode()
    found = re.findall(r"^gateway_frontend_tls_handshakes_failed_total(\{.*\}) (\d+)$", page, re.MULTILINE)
    return {labels: int(number) for labels, number in found}


def shake(port: int, context: ssl.SSLContext, name: str = "localhost") -> None:
    with contextlib.suppress(OSError), RawClient(port, context, name) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.read()


def says(data: bytes) -> Callable[[int, Authority], None]:
    """A client that says this, and then waits for the end."""

    def speak(port: int, _: Authority) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10.0) as client:
            client.sendall(data)
            with contextlib.suppress(OSError):
                while client.recv(65536):
                    pass

    return speak


def leaves(port: int, _: Authority) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=10.0).close()


def old(port: int, authority: Authority) -> None:
    context = authority.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    shake(port, context)


def other_group(port: int, authority: Authority) -> None:
    context = authority.client_context()
    context.set_ecdh_curve("secp521r1")
    shake(port, context)


def other_protocol(port: int, authority: Authority) -> None:
    context = authority.client_context()
    context.set_alpn_protocols(["imap"])
    shake(port, context)


def other_name(port: int, authority: Authority) -> None:
    shake(port, authority.client_context(), "elsewhere")


def distrusts(port: int, _: Authority) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as client:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                client.sendall(outgoing.read())
                incoming.write(client.recv(65536))
            except ssl.SSLCertVerificationError:
                client.sendall(outgoing.read())  # the alert
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
                return


def no_certificate(port: int, authority: Authority) -> None:
    shake(port, authority.client_context())


CASES: dict[str, tuple[str, str, Callable[[int, Authority], None]]] = {
    "an old version": ("strict", "version", old),
    "another group": ("strict", "cipher", other_group),
    "another protocol": ("strict", "protocol", other_protocol),
    "another name": ("strict", "name", other_name),
    "no certificate": ("asks", "client_certificate", no_certificate),
    "distrust": ("strict", "refused", distrusts),
    "HTTP": ("strict", "plain_http", says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
    "SSH": ("strict", "not_tls", says(b"SSH-2.0-OpenSSH_9.2\r\n")),
    "silence": ("strict", "timeout", says(b"")),
    "a port check": ("strict", "closed", leaves),
    "half a message": ("strict", "other", says(HELLO)),
}


@pytest.mark.parametrize("frontend, reason, act", CASES.values(), ids=CASES)
def test_each_has_its_reason(
    gateway: GatewayProcess, authority: Authority, frontend: str, reason: str, act: Callable[[int, Authority], None]
) -> None:
    port = gateway.port if frontend == "strict" else int(gateway.site["frontends"][1]["listen"].rpartition(":")[2])
    labels = f'{{frontend="{frontend}",reason="{reason}"}}'
    before = failed()[labels]
    act(port, authority)
    gateway.wait_for_log(f"{frontend}: TLS handshake of 127.0.0.1 failed: {reason}: ")
    eventually(lambda: failed()[labels] == before + 1, f"{reason} in the metrics")


def test_good_ones_are_not_among_them(gateway: GatewayProcess, authority: Authority) -> None:
    before = failed()
    context = authority.client_context()
    with RawClient(gateway.port, context) as client:
        assert client.get("/").body == b"hello"
    with RawClient(gateway.port, context):
        pass
    eventually(lambda: gateway.status()["frontends"][0]["open"] == 0, "both to have gone")
    assert failed() == before
    shown = CliRunner().invoke(main, ["status", str(gateway.path)]).output
    assert "strict: failed TLS handshakes: version 1, cipher 1" in shown
