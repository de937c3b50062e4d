"""Certificates for clients to see, and those that clients show."""

import datetime as dt
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority, Certificate
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import needs
from tests.support.raw import RawClient

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
Case = tuple[ssl.TLSVersion, str | None, bool]
"""A version, a suite (None: whichever), whether that works."""
DAY = dt.timedelta(days=1)


def secure(servers: list[BackendServer], certificates: list[Certificate], **tls: object) -> dict[str, object]:
    """A site with one frontend in TLS."""
    description = site(servers)
    description["frontends"][0]["tls"] = {"certificates": [one.as_site() for one in certificates], **tls}
    return description


def shown(client: RawClient) -> bytes:
    assert isinstance(client.socket, ssl.SSLSocket)
    found = client.socket.getpeercert(binary_form=True)
    assert found is not None
    return found


def der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert.read_text())


def test_each_of_many_names_has_its_certificate(
    lend_gateway: Starter, start_servers: Servers, authority: Authority
) -> None:
    """Of all kinds of keys, and with a wildcard among them."""
    certificates = [authority.issue(f"host{i}.example.com") for i in range(50)]
    certificates += [authority.issue("*.example.com", kind="rsa"), authority.issue("host7.example.com", kind="rsa")]
    gateway = lend_gateway(secure(start_servers("app1"), certificates))
    wanted = {0: "host0.example.com", 7: "host7.example.com", 49: "host49.example.com", 50: "other.example.com"}
    for number, name in wanted.items():
        with RawClient(gateway.port, authority.client_context(), name) as client:
            assert shown(client) == der(certificates[number])
            assert client.get("/bytes/1", host=name).body == b"a"
    context = authority.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with RawClient(gateway.port, context, "host7.example.com") as client:
        assert shown(client) == der(certificates[51])
    with pytest.raises(ssl.SSLError):  # the certificate of another name would not do
        RawClient(gateway.port, context, "host8.example.com")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_strict_sni_refuses_unknown_names(
    lend_gateway: Starter, start_servers: Servers, authority: Authority, version: ssl.TLSVersion
) -> None:
    certificates = [authority.issue("localhost"), authority.issue("*.example.com")]
    gateway = lend_gateway(secure(start_servers("app1"), certificates, strict_sni=True))
    context = authority.client_context()
    context.maximum_version = version
    for name in ("localhost", "a.example.com"):
        with RawClient(gateway.port, context, name) as client:
            assert client.get("/bytes/1", host=name).body == b"a"
    context.check_hostname = False
    for name in ("example.com", "a.b.example.com", "127.0.0.1"):  # an address is not sent: no name at all
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            RawClient(gateway.port, context, name)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize("policy, case", [
    ("modern", (ssl.TLSVersion.TLSv1_3, None, True)),
    ("modern", (ssl.TLSVersion.TLSv1_2, None, False)),
    ("intermediate", (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-CHACHA20-POLY1305", True)),
    ("intermediate", (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256", False)),
    ("intermediate", (ssl.TLSVersion.TLSv1, None, False)),
    ("old", (ssl.TLSVersion.TLSv1_2, "AES128-SHA", True)),
    ("old", (ssl.TLSVersion.TLSv1, None, True)),
    ("old", (ssl.TLSVersion.TLSv1_3, None, True)),
])  # fmt: skip
def test_policies(lend_gateway: Starter, start_servers: Servers, authority: Authority, policy: str, case: Case) -> None:
    version, suite, works = case
    certificate = authority.issue("localhost", kind="rsa")
    gateway = lend_gateway(secure(start_servers("app1"), [certificate], policy=policy))
    context = authority.client_context()
    context.set_ciphers(f"{suite or 'DEFAULT'}:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    if works:
        with RawClient(gateway.port, context) as client:
            assert client.get("/bytes/1").body == b"a"
    else:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            RawClient(gateway.port, context)


@needs("openssl")
def test_ocsp_responses_are_stapled_until_they_expire(
    lend_gateway: Starter, start_servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    good, late = authority.issue("good.example.com"), authority.issue("late.example.com")
    description = secure(start_servers("app1"), [good, late])
    for one, until in ((good, DAY), (late, -DAY)):
        path = tmp_path / f"{one.cert.stem}.ocsp"
        path.write_bytes(authority.ocsp(one, until))
        index = [good, late].index(one)
        description["frontends"][0]["tls"]["certificates"][index]["ocsp"] = str(path)  # type: ignore[index]
    gateway = lend_gateway(description)
    for name, says in (("good", "OCSP Response Status: successful"), ("late", "OCSP response: no response sent")):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-servername", f"{name}.example.com", "-status"],
            input="", capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert says in done.stdout


# ----------------------------------------------------------------------------------------------- certificates of clients

FORGED = (
    "X-Client-Cert-Verify: SUCCESS", "x-client-cert-subject: CN=root", "X-CLIENT-CERT-OTHER: 1", "X_Client_Cert_Verify: SUCCESS",
    "x-client_cert-San: DNS:root", "X-Client-Cert_Verify: SUCCESS",
)  # fmt: skip


def fields(head: bytes) -> dict[str, str]:
    """Those that tell of the client's certificate, to servers that take "_" for "-" (CGI, WSGI), too."""
    lines = [line.replace("_", "-").partition(": ") for line in head.decode().split("\r\n")]
    found = [(name[14:], value) for name, _, value in lines if name.lower().startswith("x-client-cert-")]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_servers_learn_of_the_client_s_certificate(
    lend_gateway: Starter,
    start_servers: Servers,
    authority: Authority,
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    own = authority.issue("alice.example.com", "10.0.0.1")
    (tmp_path / "other").mkdir()
    strange = Authority(tmp_path / "other").issue("mallory.example.com")
    description = secure(start_servers("app1"), [authority.issue("localhost")], client_ca=str(authority.ca))
    gateway = lend_gateway(description)
    for certificate, verdict in ((None, "NONE"), (own, "SUCCESS"), (strange, "FAILED:")):
        context = authority.client_context()
        context.maximum_version = version
        if certificate is not None:
            context.load_cert_chain(certificate.cert, certificate.key)
        with RawClient(gateway.port, context) as client:
            for _ in range(2):
                found = fields(client.get("/headers", *FORGED).body)
                assert found.pop("Verify").startswith(verdict)
                if certificate is None:
                    assert found == {}
                else:
                    name = "alice" if certificate is own else "mallory"
                    assert found["Subject"] == f"CN={name}.example.com"
                    assert found["San"].startswith(f"DNS:{name}.example.com")
                    parsed = x509.load_pem_x509_certificate(certificate.cert.read_bytes())
                    assert found["Fingerprint"] == parsed.fingerprint(hashes.SHA256()).hex()
                    assert found.keys() == {"Subject", "San", "Fingerprint"}


def test_no_client_can_claim_a_certificate_at_another_frontend(
    lend_gateway: Starter, start_servers: Servers, authority: Authority
) -> None:
    description = secure(start_servers("app1"), [authority.issue("localhost")], client_ca=str(authority.ca))
    plain = site([])["frontends"][0] | {"name": "plain"}
    description["frontends"] = [plain, *description["frontends"]]  # type: ignore[misc]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        assert fields(client.get("/headers", *FORGED).body) == {}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_may_be_required(
    lend_gateway: Starter,
    start_servers: Servers,
    authority: Authority,
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    own = authority.issue("alice.example.com")
    (tmp_path / "other").mkdir()
    strange = Authority(tmp_path / "other").issue("mallory.example.com")
    certificates = [authority.issue("localhost")]
    more = {"client_ca": str(authority.ca), "require_client_cert": True}
    gateway = lend_gateway(secure(start_servers("app1"), certificates, **more))
    for certificate in (None, strange):
        context = authority.client_context()
        context.maximum_version = version
        if certificate is not None:
            context.load_cert_chain(certificate.cert, certificate.key)
        with pytest.raises((ssl.SSLError, ConnectionError)), RawClient(gateway.port, context) as client:
            client.get("/bytes/1")
    context = authority.client_context()
    context.maximum_version = version
    context.load_cert_chain(own.cert, own.key)
    with RawClient(gateway.port, context) as client:
        assert fields(client.get("/headers").body)["Verify"] == "SUCCESS"
