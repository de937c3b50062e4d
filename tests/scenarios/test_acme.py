"""Certificates from an authority: ordered, proved, renewed, shared and shown, with authorities that really look."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.pebble import Pebble, needs_pebble
from tests.support.raw import RawClient
from tests.support.waiting import free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

pytestmark = needs_pebble


@pytest.fixture
def pebble(tmp_path: Path, authority: Authority) -> Iterator[Pebble]:
    with Pebble(tmp_path, authority, free_port(), free_port()) as running:
        yield running


def serving(servers: list[BackendServer], pebble: Pebble, state: Path, tls: dict[str, Any]) -> dict[str, Any]:
    """A site with a frontend for HTTP and one for TLS, where pebble looks."""
    description = site(servers)
    description["state"] = str(state)
    description["frontends"] = [
        {"name": "web", "listen": f"127.0.0.1:{pebble.http_port}"},
        {"name": "secure", "listen": f"127.0.0.1:{pebble.tls_port}", "tls": tls},
    ]
    return description


def shown(port: int, name: str) -> x509.Certificate:
    """The certificate that a client gets for a name; it trusts all."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with RawClient(port, context, name) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        return x509.load_der_x509_certificate(client.socket.getpeercert(binary_form=True) or b"")


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_a_certificate_is_ordered_proved_and_shown(
    start_gateway: Starter, start_servers: Servers, pebble: Pebble, tmp_path: Path, challenge: str
) -> None:
    pebble.know("www.example.com")
    tls = pebble.site("www.example.com", challenge=challenge)
    gateway = start_gateway(serving(start_servers("app1"), pebble, tmp_path / "state", tls))
    assert "no certificate yet" in shown(pebble.tls_port, "www.example.com").subject.rfc4514_string()
    gateway.wait_for_log("has given a certificate for www.example.com")
    gateway.wait_for_log("certificates renewed: 1 in use")
    with RawClient(pebble.tls_port, pebble.roots(), "www.example.com") as client:
        assert client.get("/bytes/1", host="www.example.com").body == b"a"
    (one,) = gateway.status()["acme"]["certificates"]
    assert (one["name"], one["state"], one["failures"]) == ("www.example.com", "valid", 0)
