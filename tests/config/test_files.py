import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gateway.config import files
from tests.config.conftest import BASE, Load, Refuse
from tests.support.certificates import Authority, Certificate

TLS = """\
frontends:
  - listen: "127.0.0.1:443"
    tls: {{certificates: [{{cert: {}, key: {}}}]}}
backends: {{app: {{servers: ["127.0.0.1:1"]}}}}
"""
REPORTS = BASE + 'load_reports: {listen: "127.0.0.1:8201", key_file: FILE}\n'


@pytest.fixture
def pair(authority: Authority) -> Certificate:
    return authority.issue("www.example.com")


def test_every_file_is_read(load_text: Load, tmp_path: Path, pair: Certificate) -> None:
    (tmp_path / "502.html").write_text("down")
    key = tmp_path / "agent.key"
    key.touch(mode=0o600)
    key.write_bytes(b"0123456789abcdef\n")
    text = TLS.format(pair.cert, pair.key)
    text += "load_reports: {listen: '127.0.0.1:1', key_file: agent.key}\npages: {502: 502.html, 503: 502.html}\n"
    loaded = load_text(text)
    assert loaded.files == {
        key: b"0123456789abcdef\n",
        tmp_path / "502.html": b"down",
    }
    assert loaded.site.pages == {502: tmp_path / "502.html", 503: tmp_path / "502.html"}
    assert loaded.site.load_reports is not None
    assert loaded.site.load_reports.key_file == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o620])
def test_a_key_is_its_owners_alone(refuse: Refuse, pair: Certificate, mode: int) -> None:
    pair.key.chmod(mode)
    refuse(TLS.format(pair.cert, f"»{pair.key}"), f"other users can read {pair.key}; run: chmod 600 {pair.key}")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file to another group")
@pytest.mark.parametrize("mode", [0o440, 0o640])
def test_a_key_may_be_there_for_a_group(load_text: Load, pair: Certificate, mode: int) -> None:
    """As Kubernetes mounts a Secret (root:fsGroup 0440), and as Debian keeps keys (root:ssl-cert 0640)."""
    os.chown(pair.key, 0, 2000)
    pair.key.chmod(mode)
    loaded = load_text(TLS.format(pair.cert, pair.key))
    (warning,) = loaded.warnings
    assert "the group 2000 can read" in warning.message
    assert str(pair.key) in str(warning)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file to another group")
def test_a_group_that_cannot_read_is_none_to_warn_of(load_text: Load, pair: Certificate) -> None:
    os.chown(pair.key, 0, 2000)
    pair.key.chmod(0o400)
    assert not load_text(TLS.format(pair.cert, pair.key)).warnings


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file to another group")
@pytest.mark.parametrize("mode", [0o660, 0o644, 0o650, 0o444])
def test_a_group_may_only_read(refuse: Refuse, pair: Certificate, mode: int) -> None:
    os.chown(pair.key, 0, 2000)
    pair.key.chmod(mode)
    refuse(TLS.format(pair.cert, f"»{pair.key}"), "other users can read")


def test_a_public_file_may_not_double_as_a_key(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "shared").write_bytes(b"0123456789abcdef")
    (tmp_path / "shared").chmod(0o644)
    refuse(REPORTS.replace("FILE", "»shared") + "pages: {502: shared}\n", "chmod 600")


def test_a_short_key(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "k").touch(mode=0o600)
    (tmp_path / "k").write_bytes(b"  0123456789abcde\n\n\n")
    refuse(REPORTS.replace("FILE", "»k"), "the key is too short: at least 16 bytes")


def test_a_certificate_of_another_key(refuse: Refuse, authority: Authority, pair: Certificate) -> None:
    other = authority.issue("other.example.com")
    refuse(TLS.format(pair.cert, f"»{other.key}"), "the certificate does not belong to this key")


def test_files_that_are_not_pem(refuse: Refuse, tmp_path: Path, pair: Certificate) -> None:
    refuse(TLS.format("»site.yaml", pair.key), "not a PEM certificate")
    (tmp_path / "k").touch(mode=0o600)
    refuse(TLS.format(pair.cert, "»k"), "not a PEM private key")


def test_a_damaged_certificate(refuse: Refuse, tmp_path: Path, pair: Certificate) -> None:
    lines = pair.cert.read_text().splitlines()
    (tmp_path / "c").write_text("\n".join([lines[0], *lines[3:]]))
    refuse(TLS.format("»c", pair.key), "is damaged")


def test_an_encrypted_key_is_refused_not_asked_about(refuse: Refuse, tmp_path: Path, pair: Certificate) -> None:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "k").touch(mode=0o600)
    (tmp_path / "k").write_bytes(locked)
    refuse(TLS.format(pair.cert, "»k"), "the key is encrypted")


def test_unreadable_files(refuse: Refuse, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    refuse(
        f"{BASE}pages: {{502: »none, 503: »., 504: »pipe, 500: »large}}\n",
        f"cannot read {tmp_path / 'none'}: no such file or directory",
        f"cannot read {tmp_path}: it is a directory",
        f"cannot read {tmp_path / 'pipe'}: it is not a regular file",
        f"{tmp_path / 'large'} is larger than 1MiB",
    )


SECURE = """\
frontends: [{{listen: "127.0.0.1:80"}}]
backends: {{app: {{servers: [{}], tls: {}}}}}
"""


def test_cas_are_read_with_the_site_file(load_text: Load, authority: Authority) -> None:
    loaded = load_text(SECURE.format('"127.0.0.1:1"', f"{{ca: {authority.ca}}}"))
    assert loaded.files == {authority.ca: authority.ca.read_bytes()}
    loaded = load_text(SECURE.format('"127.0.0.1:1"', "true"))
    assert list(loaded.files) == [files.SYSTEM_CAS]
    assert load_text(SECURE.format('"https://127.0.0.1:1"', "false")).files.keys() == {files.SYSTEM_CAS}
    assert load_text(SECURE.format('"127.0.0.1:1"', "{verify: false}")).files == {}


def test_files_for_tls_to_servers(refuse: Refuse, tmp_path: Path, authority: Authority) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    one = '"127.0.0.1:1"'
    refuse(SECURE.format(one, "{ca: »none.pem}"), "cannot read")
    refuse(SECURE.format(one, f"{{ca: »{empty}}}"), f"{empty}: no CA certificates in PEM")
    refuse(SECURE.format(one, f"{{verify: false, »ca: {authority.ca}}}"), "verify: false ignores the CA")
    refuse(SECURE.format(one, "{server_name: »'a b'}"), "a b is neither a host name nor an IP address")
    refuse(SECURE.format(one, "{certificate: {cert: »none, key: »none}}"), "cannot read", "cannot read")
    refuse(SECURE.format(one, "»[]"), "expected true, false or a mapping")
    refuse(SECURE.format('»"unix:/run/a"', "true"), "TLS is not spoken on a Unix socket")
    refuse(SECURE.format('»"dns:_http._tcp.a"', "true"), "say tls: server_name")
