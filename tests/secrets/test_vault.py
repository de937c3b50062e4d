from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.config import load
from gateway.proxy.tls import Identity, exported
from gateway.secrets.exported_key import export
from gateway.secrets.pairs import Pair
from gateway.secrets.vault import Secrets, Vault, needs_own
from tests.support.certificates import Authority

SITE = """\
frontends: [{listen: "127.0.0.1:1"}]
backends: {app: {servers: ["127.0.0.1:2"], affinity: {cookie: SRV%s}}}
"""
CLUSTER = "node: a\ncluster: {key_file: k, nodes: {a: 10.0.0.1}}\n"


def secrets_of(directory: Path, key: bytes) -> Secrets:
    """Of a gateway in a cluster with this key."""
    directory.mkdir()
    (directory / "k").touch(0o600)
    (directory / "k").write_bytes(key)
    (directory / "site.yaml").write_text(SITE % "" + CLUSTER)
    return Secrets.read(load(directory / "site.yaml"))


def test_what_is_put_into_a_vault_comes_out_until_the_block_ends() -> None:
    paths = Path("/tls/a.crt"), Path("/tls/a.key")
    vault = Vault.create()
    vault.fill(Secrets(b"own", {paths: Pair(b"certificate", b"private key", "digest")}))
    for _ in range(2):
        with vault.open() as found:
            assert found.own == b"own"
            assert found.pairs is not None
            pair = found.pairs[paths]
            assert (pair.cert, bytes(pair.key), pair.digest) == (b"certificate", b"private key", "digest")
        assert bytes(pair.key) == bytes(len(b"private key")), "the buffer is wiped"
    with pytest.raises(PermissionError):
        vault.fill(Secrets(b"other", {}))
    vault.close()
    vault.close()


def test_gateways_of_a_cluster_agree_and_no_others(tmp_path: Path) -> None:
    one, other = (secrets_of(tmp_path / name, b"the key of a cluster").own for name in ("1", "2"))
    assert one == other
    assert b"the key" not in one
    assert secrets_of(tmp_path / "3", b"the key of another cluster").own != one


def test_a_key_of_its_own_is_needed_only_where_nothing_else_signs(tmp_path: Path) -> None:
    (tmp_path / "k").touch(0o600)
    (tmp_path / "k").write_bytes(b"0123456789abcdef")
    path = tmp_path / "site.yaml"
    for text, needed in ((SITE % "", True), (SITE % ", key_file: k", False), (SITE % "" + CLUSTER, False)):
        path.write_text(text)
        assert needs_own(load(path).site) is needed


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_keys_of_every_kind_come_in_as_they_went_out(authority: Authority, kind: str) -> None:
    pair, other = authority.issue("localhost", kind=kind), authority.issue("localhost", kind=kind)
    cert, key = pair.cert.read_bytes(), exported(pair.key.read_bytes())
    for content in (export(pair.key.read_bytes()), export(cert + pair.key.read_bytes())):
        Identity(cert, content, ["localhost"], "EC").check()
        with pytest.raises(ValueError, match="TLS"):
            Identity(other.cert.read_bytes(), content, ["localhost"], "EC").check()
    Identity(cert, key, ["localhost"], "EC").check()
    for wrong in (exported(other.key.read_bytes()), key[:-8], key[:16], key + b"x", b""):
        with pytest.raises(ValueError, match="TLS"):
            Identity(cert, wrong, ["localhost"], "EC").check()


@pytest.mark.parametrize("form", [serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8])
def test_other_forms_and_sizes_of_keys(form: serialization.PrivateFormat) -> None:
    keys: list[ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = [rsa.generate_private_key(65537, 3072)]
    keys += [ec.generate_private_key(curve) for curve in (ec.SECP384R1(), ec.SECP521R1())]
    for key in keys:
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        assert exported(pem).startswith((b"EC\0", b"RSA\0"))
        assert export(pem)[:16] == exported(pem)[:16]


def test_of_a_file_with_chain_and_key_only_the_chain_is_kept_in_the_open(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("localhost")
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_bytes(pair.key.read_bytes() + b"a comment\n" + pair.cert.read_bytes() + authority.ca.read_bytes())
    tls = f"tls: {{certificates: [{{cert: {both}, key: {both}}}]}}"
    (tmp_path / "site.yaml").write_text((SITE % "").replace('"127.0.0.1:1"', f'"127.0.0.1:1", {tls}'))
    loaded = load(tmp_path / "site.yaml")
    assert loaded.files == {}
    pairs = Secrets.read(loaded).pairs
    assert pairs is not None
    found = pairs[both, both]
    assert found.cert == pair.cert.read_bytes() + authority.ca.read_bytes()
    Identity(found.cert, found.key, found.names, found.kind).check()


def test_what_is_no_key() -> None:
    with pytest.raises(ValueError, match="TLS"):
        exported(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
