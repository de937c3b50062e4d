"""Certificates that the gateway signs with their own keys: to stand in, and to answer a challenge (RFC 8737)."""

import datetime as dt
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LIFE: Final = dt.timedelta(days=3650)
"""Clients do not trust it anyway."""


def self_signed(names: Sequence[str], *extensions: x509.ExtensionType) -> tuple[bytes, bytes]:
    """A certificate for host names and IP addresses and its key, both PEM, with these critical extensions as well."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway: no certificate yet")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - dt.timedelta(hours=1), now + LIFE
    ).add_extension(x509.SubjectAlternativeName([general_name(one) for one in names]), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return (
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        in_pem(key),
    )


def general_name(name: str) -> x509.GeneralName:
    """The form that a name takes in a certificate."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def in_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
