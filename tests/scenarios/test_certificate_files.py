"""Certificates on disk: directories of them, and files that change while the gateway runs."""

import datetime as dt
import re
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.cli import main
from gateway.config.units import clock_text
from tests.support.backend_server import BackendServer
from tests.support.certificates import Authority, Certificate
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
DAY = dt.timedelta(days=1)
MANY = 2000
"""Certificates of a large directory,"""
EACH = 5
"""and the names of each. Ten thousand certificates take the test 15 seconds of processor time more, and show the same."""


def place(pair: Certificate, directory: Path, stem: str) -> None:
    """Write a pair as NAME.crt and NAME.key, each at once."""
    for source, suffix in ((pair.key, ".key"), (pair.cert, ".crt")):
        fresh = directory / f".{stem}{suffix}"
        fresh.touch(mode=0o600)
        fresh.write_bytes(source.read_bytes())
        fresh.rename(directory / f"{stem}{suffix}")


@pytest.fixture
def live(tmp_path: Path, authority: Authority) -> Path:
    directory = tmp_path / "live"
    directory.mkdir()
    for name in ("a", "b"):
        place(authority.issue(f"{name}.example.com"), directory, name)
    return directory


def serving(servers: list[BackendServer], directory: Path, workers: int = 1, **tls: object) -> dict[str, object]:
    description = site(servers, workers)
    description["frontends"][0]["tls"] = {"certificates": [{"directory": str(directory)}], **tls}
    return description


def shown(gateway: GatewayProcess, authority: Authority, name: str) -> bytes:
    """The certificate that a client gets for a name."""
    context = authority.client_context()
    context.check_hostname = False
    with RawClient(gateway.port, context, name) as client:
        assert client.get("/bytes/1", host=name).body == b"a"
        assert isinstance(client.socket, ssl.SSLSocket)
        return client.socket.getpeercert(binary_form=True) or b""


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def test_changed_new_and_removed_files_are_taken_up_without_a_reload(
    start_gateway: Starter, start_servers: Servers, authority: Authority, live: Path
) -> None:
    """Connections stay open, and keep the certificate that they were shown."""
    gateway = start_gateway(serving(start_servers("app1"), live, workers=2, strict_sni=True))
    with RawClient(gateway.port, authority.client_context(), "a.example.com") as client:
        assert client.get("/bytes/1", host="a.example.com").body == b"a"
        before = der(live / "a.crt")
        place(authority.issue("a.example.com"), live, "a")
        place(authority.issue("c.example.com"), live, "c")
        (live / "b.crt").unlink()
        (live / "b.key").unlink()
        gateway.wait_for_log("certificates renewed: 2 in use")
        eventually(lambda: shown(gateway, authority, "a.example.com") == der(live / "a.crt"), "the new certificate")
        assert before != der(live / "a.crt")
        eventually(lambda: shown(gateway, authority, "c.example.com") == der(live / "c.crt"), "the new name")

        def refused() -> bool:
            try:
                shown(gateway, authority, "b.example.com")
            except ssl.SSLError as error:
                return "UNRECOGNIZED_NAME" in str(error).upper().replace(" ", "_")
            return False

        eventually(refused, "the removed name to be unknown")
        assert client.get("/bytes/1", host="a.example.com").body == b"a"
    assert "reloaded" not in gateway.log


def test_a_broken_file_leaves_the_certificate_as_it_was_and_says_so(
    start_gateway: Starter, start_servers: Servers, authority: Authority, live: Path
) -> None:
    gateway = start_gateway(serving(start_servers("app1"), live))
    before = shown(gateway, authority, "a.example.com")
    (live / "a.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    place(authority.issue("c.example.com"), live, "c")
    gateway.wait_for_log(re.escape(f"certificate refused: {live}/a.crt: "))
    gateway.wait_for_log("certificates renewed: 3 in use")
    eventually(lambda: shown(gateway, authority, "c.example.com") == der(live / "c.crt"), "the other to be taken up")
    assert shown(gateway, authority, "a.example.com") == before
    eventually(
        lambda: gateway.status()["tree"]["certificates"]["renewals"] == {"accepted": 1, "refused": 1},
        "status to count it",
    )
    since = len(gateway.log)
    assert "refused" in gateway.reload()  # of a site file with a mistake nothing is used
    assert f"{live}/a.crt" in gateway.log[since:]
    gateway.kill_worker(0)  # the next one starts with what is in use, too
    gateway.wait_for_log("worker 0 uses load", since)
    assert shown(gateway, authority, "a.example.com") == before
    place(authority.issue("a.example.com"), live, "a")
    eventually(lambda: shown(gateway, authority, "a.example.com") == der(live / "a.crt"), "the whole file")


def test_a_refused_certificate_is_in_status_until_it_is_good(
    start_gateway: Starter, start_servers: Servers, authority: Authority, live: Path
) -> None:
    gateway = start_gateway(serving(start_servers("app1"), live))

    def certificates() -> dict[str, Any]:
        found: dict[str, Any] = gateway.status()["tree"]["certificates"]
        return found

    assert certificates()["refused"] == []
    broken = live / "a.crt"
    good = broken.read_bytes()
    broken.write_text("broken")
    gateway.wait_for_log(
        re.escape(f"certificate refused: {broken}: not a PEM certificate; the previous one stays in use")
    )
    eventually(lambda: certificates()["refused"], "status to name it")
    (first,) = certificates()["refused"]
    why = "not a PEM certificate; the previous one stays in use"
    assert (first["file"], first["why"]) == (str(broken), why)
    assert certificates()["renewals"] == {"accepted": 0, "refused": 1}
    assert "certificates renewed" not in gateway.log
    done = CliRunner().invoke(main, ["status", str(gateway.path)])
    assert "certificates that were refused:" in done.output
    assert f"(since {clock_text(first['since'])})" in " ".join(done.output.split())
    place(authority.issue("b.example.com"), live, "b")  # another change: the first is still refused, and not again
    gateway.wait_for_log("certificates renewed: 2 in use")
    eventually(lambda: certificates()["renewals"] == {"accepted": 1, "refused": 1}, "the other to be counted")
    assert certificates()["refused"] == [first]
    broken.write_bytes(good)
    eventually(lambda: certificates()["refused"] == [], "status to say that all is well")
    assert certificates()["renewals"] == {"accepted": 2, "refused": 1}


def test_a_file_that_the_site_names_is_watched_as_well(
    lend_gateway: Starter, start_servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    """Through symbolic links, which Kubernetes and ACME clients replace."""
    first, second = tmp_path / "1", tmp_path / "2"
    for directory in (first, second):
        directory.mkdir()
        place(authority.issue("localhost"), directory, "tls")
    link = tmp_path / "current"
    link.symlink_to(first)
    description = site(start_servers("app1"))
    item = {"cert": str(link / "tls.crt"), "key": str(link / "tls.key")}
    description["frontends"][0]["tls"] = {"certificates": [item]}
    gateway = lend_gateway(description)
    assert shown(gateway, authority, "localhost") == der(first / "tls.crt")
    fresh = tmp_path / "fresh"
    fresh.symlink_to(second)
    fresh.rename(link)
    eventually(lambda: shown(gateway, authority, "localhost") == der(second / "tls.crt"), "the other certificate")
    (second / "tls.key").unlink()
    gateway.wait_for_log(r"certificate refused: .*cannot read .*; the previous one stays in use")
    assert shown(gateway, authority, "localhost") == der(second / "tls.crt")


def test_sighup_takes_up_changed_files_at_once(
    start_gateway: Starter, start_servers: Servers, authority: Authority, live: Path
) -> None:
    gateway = start_gateway(serving(start_servers("app1"), live))
    place(authority.issue("a.example.com"), live, "a")
    assert "reloaded: " in gateway.reload()
    assert shown(gateway, authority, "a.example.com") == der(live / "a.crt")


def test_certificates_that_expire_are_in_check_log_status_and_metrics(
    start_gateway: Starter, start_servers: Servers, authority: Authority, live: Path
) -> None:
    place(authority.issue("b.example.com", valid=(-80 * DAY, 10 * DAY)), live, "b")
    place(authority.issue("c.example.com", valid=(-2 * DAY, -DAY)), live, "c")
    place(authority.issue("d.example.com", valid=(DAY, 2 * DAY)), live, "d")
    port = free_port()
    description = serving(start_servers("app1"), live)
    description["admin"] = {"listen": f"127.0.0.1:{port}", "sockets": str(live.parent)}
    gateway = start_gateway(description)
    texts = ["b.crt: the certificate expires on", "c.crt: the certificate expired on", "d.crt: the certificate is not"]
    checked = CliRunner().invoke(main, ["check", str(gateway.path)])
    assert checked.exit_code == 0

    def said() -> str:
        return " ".join(CliRunner().invoke(main, ["status", str(gateway.path)]).output.split())  # unwrapped

    eventually(lambda: all(f"{live}/{text}" in said() for text in texts), "the certificates in the status")
    for text in texts:
        assert f"{live}/{text}" in checked.output
        assert f"{live}/{text}" in gateway.log
    assert "a.crt" not in checked.output + gateway.log
    with RawClient(port) as client:
        page = client.get("/metrics").body.decode()
    until = x509.load_pem_x509_certificate((live / "c.crt").read_bytes()).not_valid_after_utc.timestamp()
    sample = re.search(rf'^gateway_certificate_not_after_seconds{{file="{live}/c.crt"}} (\S+)$', page, re.MULTILINE)
    assert sample is not None
    assert float(sample[1]) == until
    assert "gateway_certificates 4\n" in page


def test_changed_authorities_of_clients_are_taken_up(
    lend_gateway: Starter, start_servers: Servers, tmp_path: Path, authority: Authority, live: Path
) -> None:
    (tmp_path / "new").mkdir()
    new = Authority(tmp_path / "new")
    cas = tmp_path / "clients.pem"
    cas.write_bytes(authority.ca.read_bytes())
    gateway = lend_gateway(serving(start_servers("app1"), live, client_ca=str(cas)))

    def verdict(issuer: Authority) -> str:
        context = authority.client_context()
        own = issuer.issue("alice.example.com")
        context.load_cert_chain(own.cert, own.key)
        with RawClient(gateway.port, context, "a.example.com") as client:
            found = re.search(rb"X-Client-Cert-Verify: (\S+)", client.get("/headers").body)
            assert found is not None
            return found[1].decode()[:7]

    assert (verdict(authority), verdict(new)) == ("SUCCESS", "FAILED:")
    cas.write_bytes(b"half a file")
    gateway.wait_for_log("certificate refused: .*clients.pem: no CA certificates in PEM")
    assert verdict(authority) == "SUCCESS"
    since = len(gateway.log)
    cas.write_bytes(new.ca.read_bytes())
    gateway.wait_for_log("certificates renewed", since)
    eventually(lambda: (verdict(authority), verdict(new)) == ("FAILED:", "SUCCESS"), "the new authority to count")


def certificates(numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield numbers, each with a certificate and key in PEM. All have one key, and a signature that is not theirs,
    because nobody verifies it, and a proper one takes 40 times as long.
    """
    key, now, mark = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC), "99999"
    own = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, mark)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now - 2 * DAY, now + 60 * DAY)
    alternative = x509.SubjectAlternativeName(map(x509.DNSName, names(mark)))
    signed = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    content = signed.public_bytes(serialization.Encoding.DER)
    for number in numbers:
        made = content.replace(mark.encode(), f"{number:05}".encode())
        yield number, ssl.DER_cert_to_PEM_cert(made).encode() + own


def names(number: str) -> list[str]:
    return [f"{letter}{number}.example.com" for letter in "abcdefgh"[:EACH]]


@pytest.mark.timeout(300)
def test_of_ten_thousand_names_a_handshake_costs_what_it_costs_of_ten(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    """And they take little memory: only certificates that a client has asked for are parsed."""
    many, few = tmp_path / "many", tmp_path / "few"
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def write(directory: Path, numbers: Iterable[int]) -> None:
        directory.mkdir(exist_ok=True)
        for number, content in certificates(numbers):
            path = directory / f"{number}.pem"
            path.touch(mode=0o600)
            path.write_bytes(content)

    def serves(port: int, number: int) -> bool:
        own = names(f"{number:05}")
        with RawClient(port, context, own[-1]) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            shown = x509.load_der_x509_certificate(client.socket.getpeercert(binary_form=True) or b"")
            found = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            return found.get_values_for_type(x509.DNSName) == own

    def cost(port: int) -> int:
        """Nanoseconds of the worker's processor time for handshakes."""
        before = worked()
        assert all(serves(port, number) for number in asked for _ in range(30))
        return worked() - before

    def worked() -> int:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())

    asked = [MANY - 2, MANY - 1]
    write(many, [0])
    write(few, asked)
    description = site(start_servers("app1"))
    other = free_port()
    description["frontends"][0]["tls"] = {"certificates": [{"directory": str(many)}]}
    description["frontends"].append(
        {"listen": f"127.0.0.1:{other}", "tls": {"certificates": [{"directory": str(few)}]}}
    )
    gateway = start_gateway(description)
    worker = psutil.Process(gateway.workers()[0])
    tasks = Path(f"/proc/{worker.pid}/task")
    write(many, [1])
    gateway.wait_for_log("certificates renewed: 4 in use")  # what each renewal takes
    eventually(lambda: serves(gateway.port, 1), "the second certificate to be served")
    before = worker.memory_info().rss
    write(many, range(2, MANY))
    gateway.wait_for_log(f"certificates renewed: {MANY + 2} in use", seconds=100.0)
    eventually(lambda: serves(gateway.port, MANY - 1), "the last one to be served")
    assert (worker.memory_info().rss - before) / MANY < 12_000

    for port in (gateway.port, other):
        cost(port)  # parses their certificates
    rounds = [(cost(gateway.port), cost(other)) for _ in range(6)]  # by turns, because others use this machine, too
    of_many, of_few = map(min, zip(*rounds, strict=True))
    assert of_many < 1.5 * of_few
    since = len(gateway.log)
    write(many, [5])
    gateway.wait_for_log(f"certificates renewed: {MANY + 2} in use", since, seconds=100.0)


def test_a_client_cannot_renegotiate_or_send_early_data(
    lend_gateway: Starter, start_servers: Servers, live: Path, tmp_path: Path
) -> None:
    gateway = lend_gateway(serving(start_servers("app1"), live))
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", "-servername", "a.example.com"]

    def run(*options: str, say: str = "") -> str:
        done = subprocess.run([*client, *options], input=say, capture_output=True, text=True, check=False, timeout=30)
        return done.stdout + done.stderr

    # "R" alone on a line asks for a renegotiation.
    said = run("-tls1_2", say="R\n")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    session, early = tmp_path / "session", tmp_path / "early"
    early.write_text("GET /bytes/1 HTTP/1.1\r\nHost: a\r\n\r\n")
    ask = "GET /bytes/1 HTTP/1.0\r\nHost: a\r\n\r\n"
    run("-tls1_3", "-ign_eof", "-sess_out", str(session), say=ask)
    ticket = subprocess.run(
        ["openssl", "sess_id", "-in", str(session), "-noout", "-text"], capture_output=True, text=True, check=True
    )
    assert "Max Early Data: 0" in ticket.stdout
    said = run("-tls1_3", "-ign_eof", "-sess_in", str(session), "-early_data", str(early), say=ask)
    assert "Reused, TLSv1.3" in said
    assert "Early data was accepted" not in said
