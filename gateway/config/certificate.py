"""Loads certificates from memory: the process that read them as root may differ from the worker that uses them."""

import os
import ssl
from typing import Final

from cryptography import x509
from cryptography.x509 import ocsp

from gateway.config.problem import Fault

_REASONS: Final = {
    "KEY_VALUES_MISMATCH": ("key", "the certificate does not belong to this key"),
    "EE_KEY_TOO_SMALL": ("cert", "the key of the certificate is too small to be safe"),
    "CA_MD_TOO_WEAK": ("cert", "the certificate is signed with a broken digest"),
}


def load(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    """Load a certificate chain and its private key, both PEM, into `context`. Raises Fault at "cert" or "key"."""
    if b"-----BEGIN CERTIFICATE-----" not in cert:
        raise Fault("not a PEM certificate", "cert")
    if b"PRIVATE KEY-----" not in key:
        raise Fault("not a PEM private key", "key")
    # The ssl module reads only files. An anonymous file has no name, and disappears with its descriptor.
    files = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("cert", "key")]
    try:
        for descriptor, data in zip(files, (cert, key), strict=True):
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
        names = [f"/proc/self/fd/{descriptor}" for descriptor in files]
        context.load_cert_chain(names[0], names[1], password=_no_password)
    except ssl.SSLError as error:
        at, message = _REASONS.get(error.reason, ("cert", "the certificate or its key is damaged"))
        raise Fault(message, at) from None
    finally:
        for descriptor in files:
            os.close(descriptor)


def ocsp_until(content: bytes, cert: bytes) -> int:
    """The end of validity of an OCSP response (DER) for a certificate (PEM), in seconds since 1970.

    Raises Fault at "ocsp".
    """
    try:
        found = ocsp.load_der_ocsp_response(content)
        if found.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise Fault(f"the OCSP response says {found.response_status.name.lower()}", "ocsp")
        serial, until = found.serial_number, found.next_update_utc
    except ValueError as error:
        if isinstance(error, Fault):
            raise
        raise Fault("not an OCSP response in DER", "ocsp") from None
    if serial != x509.load_pem_x509_certificate(cert).serial_number:
        raise Fault("the OCSP response is for another certificate", "ocsp")
    return int(until.timestamp()) if until is not None else 1 << 62


def load_cas(context: ssl.SSLContext, content: bytes) -> None:
    """Let `context` trust the CA certificates of a PEM file. Raises Fault."""
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        raise Fault("no CA certificates in PEM") from None


def _no_password() -> str:
    """Replaces OpenSSL's prompt on the terminal."""
    raise Fault("the key is encrypted: remove its pass phrase, because the gateway starts unattended", "key")
