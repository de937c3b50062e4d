"""TLS towards clients: one context per certificate, chosen by the server name the client asks for (RFC 6066)."""

import ssl
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from gateway.config import certificate
from gateway.config.model import Tls

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def names_of(pem: bytes) -> tuple[str, ...]:
    """The DNS names a certificate is for, in lower case; those of the common name only where there is no other."""
    found = x509.load_pem_x509_certificate(pem)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        common = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(str(name.value).lower() for name in common)


def server_context(tls: Tls, files: Mapping[Path, bytes]) -> ssl.SSLContext:
    """The context of a frontend: its first certificate, and the others by name (exact first, then wildcard).

    Raises ValueError for a certificate or key that can't be used.
    """
    contexts = [_context(tls, files[pair.cert], files[pair.key]) for pair in tls.certificates]
    by_name: dict[str, ssl.SSLContext] = {}
    for pair, context in zip(tls.certificates, contexts, strict=True):
        for name in names_of(files[pair.cert]):
            by_name.setdefault(name, context)
    first = contexts[0]

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name:
            name = name.lower()
            found = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
            if found is not None and found is not first:
                connection.context = found

    first.sni_callback = choose
    return first


def _context(tls: Tls, cert: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    certificate.load(context, cert, key)
    return context
