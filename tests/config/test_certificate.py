import datetime as dt
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from gateway.config import certificate, private_key
from gateway.config.problem import Fault
from tests.support.certificates import Authority

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, CertificateIssuerPrivateKeyTypes] = {
    "rsa": RSA,
    "p256": EC,
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p192": ec.generate_private_key(ec.SECP192R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "short": rsa.generate_private_key(65537, 1024),
}
PKCS1 = bytes.fromhex("2a864886f70d0101")
SHA256, SHA1 = x509.SignatureAlgorithmOID.RSA_WITH_SHA256, x509.SignatureAlgorithmOID.RSA_WITH_SHA1


def signed(key: CertificateIssuerPrivateKeyTypes, algorithm: x509.ObjectIdentifier = SHA256) -> bytes:
    """A certificate of a key, in PEM, that says that an RSA key has signed it in this way."""
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    name, issuer = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in ("a.test", "CA"))
    builder = x509.CertificateBuilder(issuer, name, key.public_key(), 1, now - day, now + day)
    made = builder.sign(RSA, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    # Cryptography makes no signature with SHA-1; nobody verifies this one.
    last = {SHA256: b"\x0b", SHA1: b"\x05"}[algorithm]
    return ssl.DER_cert_to_PEM_cert(made.replace(PKCS1 + b"\x0b", PKCS1 + last)).encode()


def pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, *form)


def pairs() -> Iterator[tuple[str, bytes, bytes, bool]]:
    """Certificates and keys, and whether OpenSSL need not be asked: both are of the usual kinds, or do not match."""
    for kind, key in KEYS.items():
        yield kind, signed(key), pem(key), kind in {"rsa", "p256", "p384"}
        yield f"{kind}, SHA-1", signed(key, SHA1), pem(key), False
    good, weak, other = signed(EC), signed(EC, SHA1), signed(RSA)
    yield "of another key", good, pem(RSA), True
    yield "with the issuer", good + other, pem(EC), True
    yield "issuer first", other + good, pem(EC), True
    yield "with a weak issuer", good + weak, pem(EC), False
    yield "key in the same file", pem(EC) + good, pem(EC) + good, True
    yield "key after it in the same file", good + pem(EC), good + pem(EC), True
    yield "with trust", good.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE") + good, pem(EC), False
    yield "no certificate", b"", pem(EC), False
    yield "no key", good, good, False
    yield "cut", good[:200] + good[300:], pem(EC), False


def test_a_context_from_memory_serves_the_certificate(authority: Authority) -> None:
    pair = authority.issue("www.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    before = len(list(Path("/proc/self/fd").iterdir()))
    certificate.load(context, pair.cert.read_bytes(), pair.key.read_bytes())
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = authority.client_context().wrap_bio(to_client, to_server, server_hostname="www.example.com")
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(pair.cert.read_text())


PAIRS = {name: (cert, key, usual) for name, cert, key, usual in pairs()}


@pytest.mark.parametrize("name", PAIRS)
def test_the_cheap_check_says_what_openssl_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key, usual = PAIRS[name]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asked: list[bytes] = []

    def verdict(check: object) -> tuple[str, ...]:
        assert callable(check)
        try:
            check(context, cert, key)
        except Fault as fault:
            return str(fault), *map(str, fault.at)
        return ()

    load = certificate.load
    said = verdict(load)

    def note(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
        asked.append(cert)
        load(context, cert, key)

    monkeypatch.setattr(certificate, "load", note)
    assert verdict(certificate.check) == said
    assert asked == ([] if usual else [cert])
    assert not usual or said == () or "belong" in said[0]


def test_a_key_of_another_kind_does_not_belong_to_the_certificate() -> None:
    """Nor if the context has the key already, with the certificate that it belongs to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for _ in range(2):
        with pytest.raises(Fault, match="the certificate does not belong to this key") as caught:
            certificate.check(context, signed(EC), pem(RSA))
        assert caught.value.at == ("key",)
        certificate.load(context, signed(RSA), pem(RSA))


def test_openssl_is_asked_at_a_higher_level_of_security() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=3")  # RSA from 3072 bits
    with pytest.raises(Fault, match="too small to be safe"):
        certificate.check(context, signed(RSA), pem(RSA))


@pytest.mark.parametrize("what", ["d", "dmp1", "dmq1", "iqmp"])
def test_a_damaged_rsa_key_is_refused(what: str) -> None:
    """OpenSSL takes it, and signs slowly or not at all."""
    numbers = RSA.private_numbers()
    values = {name: getattr(numbers, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    values[what] += 2
    wrong = rsa.RSAPrivateNumbers(**values, public_numbers=numbers.public_numbers)
    damaged = pem(wrong.private_key(unsafe_skip_rsa_key_validation=True))
    with pytest.raises(Fault, match="the key is damaged: its numbers do not fit together") as caught:
        certificate.check(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), signed(RSA), damaged)
    assert caught.value.at == ("key",)


def test_no_primes_are_looked_for_in_keys() -> None:
    """A test whether factors are primes takes 50 ms and more: minutes for thousands of keys."""
    content = pem(RSA)
    began = time.process_time()
    for _ in range(100):
        assert private_key.load(content) is not None
    assert time.process_time() - began < 1.0
