"""Certificates for tests: an authority that exists only for one run."""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificateIssuerPublicKeyTypes,
)
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

VALID = dt.timedelta(days=2)
KEYS: Mapping[str, Callable[[], CertificateIssuerPrivateKeyTypes]] = {
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files of a certificate and its key (0600)."""

    cert: Path
    key: Path

    def as_site(self) -> dict[str, str]:
        """Return an item of `tls: certificates:` of a site file."""
        return {"cert": str(self.cert), "key": str(self.key)}


class Authority:
    """A certificate authority whose files are in `directory`; `ca` is what a client should trust."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = directory / "ca.crt"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def key_pem(self) -> bytes:
        """Its private key."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def _builder(
        self,
        subject: x509.Name,
        key: CertificateIssuerPublicKeyTypes,
        valid: tuple[dt.timedelta, dt.timedelta] = (-VALID, VALID),
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + valid[0])
            .not_valid_after(now + valid[1])
            # Newer OpenSSL wants to find the issuer by its key (RFC 5280 section 4.2.1.1).
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def issue(
        self, *names: str, kind: str = "ec", valid: tuple[dt.timedelta, dt.timedelta] = (-VALID, VALID)
    ) -> Certificate:
        """Return a new certificate for `names`: host names, wildcards or IP addresses; its key is ec, rsa or ed25519.

        It is `valid` from the first to the second of two times, counted from now.
        """
        key = KEYS[kind]()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = (
            self._builder(subject, key.public_key(), valid)
            .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = f"{names[0].replace('*', 'any')}-{certificate.serial_number:x}"
        files = Certificate(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")
        files.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.touch(mode=0o600)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def ocsp(self, certificate: Certificate, until: dt.timedelta = VALID) -> bytes:
        """Return an OCSP response in DER, valid until then, counted from now: the certificate is not revoked."""
        found = x509.load_pem_x509_certificate(certificate.cert.read_bytes())
        issuer = x509.load_pem_x509_certificate(self.ca.read_bytes())
        now = dt.datetime.now(dt.UTC)
        builder = ocsp.OCSPResponseBuilder().add_response(
            found, issuer, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD, now - VALID, now + until, None, None
        )
        made = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer).sign(self._key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.DER)

    def server_context(self, certificate: Certificate) -> ssl.SSLContext:
        """Return what a server needs to show a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert, certificate.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return what a client needs to verify certificates of this authority."""
        return ssl.create_default_context(cafile=self.ca)


def general_name(name: str) -> x509.GeneralName:
    """Return the form that `name` takes in a certificate."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
