"""Certificates from an authority: ordered, proved, renewed, shared and shown, with authorities that really look."""

import json
import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.cli import main
from tests.support.acme2certifier import Acme2Certifier, needs_acme2certifier
from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.pebble import Pebble, needs_pebble
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port, free_udp_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]


@pytest.fixture
def pebble(tmp_path: Path, authority: Authority) -> Iterator[Pebble]:
    with Pebble(tmp_path, authority, free_port(), free_port()) as running:
        yield running


def serving(
    servers: list[BackendServer],
    pebble: Pebble | Acme2Certifier,
    state: Path,
    tls: dict[str, Any],
    address: str = "127.0.0.1",
) -> dict[str, Any]:
    """A site with a frontend for HTTP and one for TLS, where pebble looks."""
    description = site(servers)
    description["state"] = str(state)
    description["frontends"] = [
        {"name": "web", "listen": f"{address}:{pebble.http_port}"},
        {"name": "secure", "listen": f"{address}:{pebble.tls_port}", "tls": tls},
    ]
    return description


def shown(port: int, name: str, address: str = "127.0.0.1") -> x509.Certificate:
    """The certificate that a client gets for a name; it trusts all."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with RawClient(port, context, name, address) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        return x509.load_der_x509_certificate(client.socket.getpeercert(binary_form=True) or b"")


def own(gateway: GatewayProcess) -> dict[str, dict[str, Any]]:
    """What status says of each certificate by ACME."""
    acme = gateway.status()["acme"]
    return {one["name"]: one for one in acme["certificates"]} if acme is not None else {}


def stand_in(certificate: x509.Certificate) -> bool:
    return "no certificate yet" in certificate.subject.rfc4514_string()


def is_real(port: int, name: str, address: str) -> bool:
    return not stand_in(shown(port, name, address))


@needs_pebble
def test_certificates_are_ordered_proved_and_shown(
    start_gateway: Starter, start_servers: Servers, pebble: Pebble, tmp_path: Path
) -> None:
    """Both challenges, both kinds of keys, several names, and an IP address; each challenge at any frontend."""
    for name in ("web.example.com", "alpn.example.com", "second.example.com"):
        pebble.know(name)
    description = serving(start_servers("app1"), pebble, tmp_path / "state", pebble.site("web.example.com", key="rsa"))
    other = free_port()
    tls = pebble.site(["alpn.example.com", "second.example.com"], "127.0.0.1", challenge="tls-alpn-01")
    description["frontends"].append({"name": "other", "listen": f"127.0.0.1:{other}", "tls": tls, "http2": True})
    gateway = start_gateway(description)
    assert stand_in(shown(pebble.tls_port, "web.example.com"))
    names = ("web.example.com", "alpn.example.com", "127.0.0.1")
    for name in names:
        gateway.wait_for_log(f"has given a certificate for {name}")
    eventually(lambda: not stand_in(shown(other, "127.0.0.1")), "the certificate of the address")
    eventually(lambda: not stand_in(shown(pebble.tls_port, "web.example.com")), "the certificate of the name")
    trust = pebble.roots()
    certified = [(other, name) for name in ("alpn.example.com", "second.example.com", "127.0.0.1")]
    for port, name in ((pebble.tls_port, "web.example.com"), *certified):
        with RawClient(port, trust, name) as client:
            assert client.get("/bytes/1", host=name).body == b"a"
    assert isinstance(shown(pebble.tls_port, "web.example.com").public_key(), rsa.RSAPublicKey)
    assert isinstance(shown(other, "alpn.example.com").public_key(), ec.EllipticCurvePublicKey)
    assert shown(other, "second.example.com") == shown(other, "alpn.example.com")
    assert {name: (one["state"], one["failures"]) for name, one in own(gateway).items()} == dict.fromkeys(
        names, ("valid", 0)
    )
    with RawClient(pebble.http_port) as client:
        assert client.get("/.well-known/acme-challenge/no-such-token").body == b"app1", "the routes decide"
    since, orders = len(gateway.log), pebble.log.count("Issued certificate")
    assert orders == 3
    gateway.upgrade()
    eventually(lambda: "acme uses load 1" in gateway.log[since:], "the next process of the role")
    eventually(lambda: own(gateway).keys() == set(names), "the next gateway to know them")
    assert not stand_in(shown(other, "alpn.example.com"))
    assert pebble.log.count("Issued certificate") == orders, "what is kept is used"


@needs_pebble
def test_an_authority_of_known_customers_wants_the_external_account(
    start_gateway: Starter, start_servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    key = tmp_path / "external.key"
    key.touch(mode=0o600)
    key.write_text("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")
    pebble = Pebble(tmp_path, authority, free_port(), free_port())
    pebble.customers = {"kid-1": key.read_text()}
    with pebble:
        pebble.know("web.example.com")
        description = serving(start_servers("app1"), pebble, tmp_path / "state", pebble.site("web.example.com"))
        gateway = start_gateway(description)
        gateway.wait_for_log("known customers only")
        tls = pebble.site("web.example.com", external_account={"id": "kid-1", "key_file": str(key)})
        description["frontends"][1]["tls"] = tls
        gateway.reload(description)
        gateway.wait_for_log("has given a certificate for web.example.com")


@needs_pebble
def test_a_failure_leaves_the_certificate_is_loud_and_is_remembered(
    start_gateway: Starter, start_servers: Servers, pebble: Pebble, authority: Authority, tmp_path: Path
) -> None:
    """Orders that fail at a staging directory never reach the real one."""
    name, state = "www.example.com", tmp_path / "state"
    pebble.know(name)
    admin = free_port()
    (tmp_path / "staging").mkdir()
    with Pebble(tmp_path / "staging", authority, pebble.http_port, pebble.tls_port) as staging:
        tls = pebble.site(name, staging=staging.url)
        description = serving(start_servers("app1"), pebble, state, tls)
        description["admin"] = {"listen": f"127.0.0.1:{admin}", "sockets": str(tmp_path)}
        gateway = start_gateway(description)
        failed = gateway.wait_for_log(r"ERROR .*acme: no certificate for www\.example\.com: .*there is none yet.*")
        assert "could not validate www.example.com" in failed[0]
        assert "Issued" not in pebble.log
        assert "new-order" not in pebble.log.lower().replace("neworder", "new-order")
        one = own(gateway)[name]
        assert (one["state"], one["failures"], one["not_after"]) == ("failed", 1, None)
        with RawClient(admin) as client:
            page = client.get("/metrics").body.decode()
        assert f'gateway_acme_certificate_failures{{name="{name}"}} 1\n' in page
        assert 'gateway_acme_orders_total{result="failed"} 1\n' in page
        asked = staging.names.asked[name, "A"]
        gateway.terminate()
        since = len(gateway.log)
        gateway.start()
        gateway.wait_for_log("acme uses load 1", since)
        eventually(lambda: own(gateway)[name]["failures"] == 1, "the failure to be known again")
        assert own(gateway)[name]["next"] == one["next"], "it is not tried sooner"
        assert staging.names.asked[name, "A"] == asked
        staging.know(name)
        description["frontends"][1]["tls"]["acme"]["challenge"] = "tls-alpn-01"
        gateway.reload(description)  # other settings are tried at once
        gateway.wait_for_log("fills an order for www.example.com; ordering it at")
        gateway.wait_for_log("has given a certificate for www.example.com")
    before = (state / "acme" / f"{name}.pem").read_bytes()
    description["frontends"][1]["tls"]["acme"] |= {"staging": False, "directory": staging.url}  # which has ended
    gateway.reload(description)
    gateway.wait_for_log("connection refused; that of before stays, valid until")
    assert (state / "acme" / f"{name}.pem").read_bytes() == before
    assert not stand_in(shown(pebble.tls_port, name))
    wanted = "the last order failed: the authority does not answer: connection refused"

    def said() -> str:
        return " ".join(CliRunner().invoke(main, ["status", str(gateway.path)]).output.split())  # unwrapped

    eventually(lambda: wanted in said(), "the failure in the status")


@needs_pebble
@pytest.mark.skipif(os.geteuid() != 0, reason="left out: a cluster needs root")
def test_the_gateway_that_is_asked_answers_for_the_one_that_orders(
    start_servers: Servers, pebble: Pebble, tmp_path: Path
) -> None:
    """Two gateways with one account, one certificate and the challenges in common, whichever the name leads to."""
    names = ("web.example.com", "alpn.example.com")
    for name in names:
        pebble.know(name, "127.0.0.2")
    key = tmp_path / "cluster.key"
    key.touch(mode=0o600)
    key.write_bytes(b"0123456789abcdef")
    servers, port, beats = start_servers("app1"), free_port(), free_udp_port()
    with ExitStack() as stack:
        gateways = {}
        for number, node in ((1, "gw1"), (2, "gw2")):  # the one that orders waits for the other
            address = f"127.0.0.{number}"
            (tmp_path / node).mkdir()
            tls = pebble.site("web.example.com")
            description = serving(servers, pebble, tmp_path / node / "state", tls, address)
            other = {**pebble.site("alpn.example.com", challenge="tls-alpn-01")}
            description["frontends"].append({"name": "other", "listen": f"{address}:{free_port()}", "tls": other})
            description |= {"node": node, "state": str(tmp_path / node / "state")}
            description["cluster"] = {
                "key_file": str(key),
                "nodes": {"gw1": "127.0.0.1", "gw2": "127.0.0.2"},
                "listen": port,
                "heartbeat": {"links": [{"udp": beats}]},
            }
            gateways[node] = stack.enter_context(GatewayProcess(tmp_path / node, description))
        for name in names:
            gateways["gw1"].wait_for_log(f"has given a certificate for {name}")
            gateways["gw2"].wait_for_log(f"another gateway has a newer certificate for {name}")
        for address in ("127.0.0.1", "127.0.0.2"):
            eventually(partial(is_real, pebble.tls_port, names[0], address), f"the certificate at {address}")
        assert shown(pebble.tls_port, names[0], "127.0.0.2") == shown(pebble.tls_port, names[0], "127.0.0.1")
        assert pebble.log.count("Issued certificate") == 2
        kept = [json.loads((tmp_path / node / "state" / "acme" / "state.json").read_text()) for node in ("gw1", "gw2")]
        assert kept[0]["accounts"] == kept[1]["accounts"] != {}
        assert not re.search("has given", gateways["gw2"].log)


@needs_acme2certifier
def test_a_certificate_of_six_days_is_renewed_when_its_authority_says(
    start_gateway: Starter, start_servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    """Of an IP address, by TLS-ALPN-01; a whole window lies in the past after a revocation, for example."""
    with Acme2Certifier(tmp_path, authority, free_port(), free_port(), days=6) as made:
        description = serving(
            start_servers("app1"), made, tmp_path / "state", made.site("127.0.0.1", challenge="tls-alpn-01")
        )
        gateway = start_gateway(description)
        gateway.wait_for_log("has given a certificate for 127.0.0.1")
        file = tmp_path / "state" / "acme" / "127.0.0.1.pem"
        first = x509.load_pem_x509_certificate(file.read_bytes())
        life = first.not_valid_after_utc - first.not_valid_before_utc
        assert life.days in {5, 6}
        begin, end = first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()
        due = begin + 0.85 * (end - begin)  # acme2certifier's window begins there
        eventually(lambda: own(gateway)["127.0.0.1"]["next"] >= due - 5, "the window of the authority")
        gateway.terminate()
        made.stop()
        kept = tmp_path / "state" / "acme" / "state.json"
        state = json.loads(kept.read_text())
        state["certificates"]["127.0.0.1"]["at"] -= 7200  # it came two hours ago
        state["records"]["127.0.0.1"]["ask_at"] = 0.0
        kept.write_text(json.dumps(state))
        made.start(force=True)
        since = len(gateway.log)
        gateway.start()
        gateway.wait_for_log("has given a certificate for 127.0.0.1", since)
        assert x509.load_pem_x509_certificate(file.read_bytes()) != first
        asked = re.search(r"GET /acme/renewal-info/(\S+)", made.log)
        assert asked is not None
        assert f'"replaces": "{asked[1]}"' in made.log, "the authority knows which one it replaces"


def test_what_cannot_be_read_is_said_once_and_taken_up_once_it_is_mended(
    start_gateway: Starter, start_servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    kept = tmp_path / "state" / "acme"
    (kept / "state.json").mkdir(mode=0o700, parents=True)
    kept.chmod(0o700)
    description = site(start_servers("app1"))
    description["state"] = str(tmp_path / "state")
    acme = {"directory": f"https://127.0.0.1:{free_port()}/dir", "names": ["a.example.com"], "ca": str(authority.ca)}
    description["frontends"].append({"name": "tls", "listen": f"127.0.0.1:{free_port()}", "tls": {"acme": acme}})
    gateway = start_gateway(description)
    gateway.wait_for_log("acme: cannot read what is kept of certificates: .*nothing is ordered until that is mended")
    (kept / "state.json").rmdir()
    gateway.wait_for_log("no certificate for a.example.com: the authority does not answer")
    assert gateway.log.count("cannot read what is kept") == 1
