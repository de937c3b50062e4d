"""Certificates in memory: loads them, and says what they are. The process that read them as root may differ from the
worker that uses them.
"""

import contextlib
import os
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp

from gateway.config import private_key
from gateway.config.problem import Fault

SOON: Final = 14 * 86400
"""Seconds before the end of a certificate from which on it is about to expire,"""
LAST_PART: Final = 0.2
"""or this part of its life, if that is shorter: renewal is due at two thirds of a life."""

State: TypeAlias = Literal["valid", "expiring", "expired", "not_yet_valid"]

_REASONS: Final = {
    "KEY_VALUES_MISMATCH": ("key", "the certificate does not belong to this key"),
    "EE_KEY_TOO_SMALL": ("cert", "the key of the certificate is too small to be safe"),
    "CA_MD_TOO_WEAK": ("cert", "the certificate is signed with a broken digest"),
}
_USUAL_LEVEL: Final = 2
"""OpenSSL's level of security up to which (SSL_CTX_set_security_level(3)) it takes these:"""
_USUAL_RSA: Final = 2048
_USUAL_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_USUAL_DIGESTS: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def check(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    """Raise Fault at "cert" or "key" if `load` would; of the usual kinds of keys and digests at a tenth of its cost."""
    try:
        if context.security_level <= _USUAL_LEVEL and _surely_good(cert, key):
            return
    except ValueError as error:
        raise Fault(str(error), "key") from None
    if (fault := _mismatch(cert, key)) is not None:
        raise fault  # a context that has had other certificates may take this for a key of one of those
    load(context, cert, key)


def _surely_good(cert: bytes, key: bytes) -> bool:
    """Whether OpenSSL can be expected to take a certificate with its key. Raises ValueError if the key is damaged."""
    own = private_key.load(key)
    if own is None or b"TRUSTED CERTIFICATE" in cert:
        return False
    try:
        chain = x509.load_pem_x509_certificates(cert)
        return own.public_key() == chain[0].public_key() and all(map(_is_usual, chain))
    except (ValueError, UnsupportedAlgorithm):
        return False


def _is_usual(certificate: x509.Certificate) -> bool:
    """Raises ValueError, UnsupportedAlgorithm."""
    key = certificate.public_key()
    strong = isinstance(key, rsa.RSAPublicKey) and key.key_size >= _USUAL_RSA
    strong |= isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _USUAL_CURVES)
    return strong and isinstance(certificate.signature_hash_algorithm, _USUAL_DIGESTS)


def check_form(cert: bytes | None, key: bytes | None) -> None:
    """Raise Fault at "cert" or "key" if one that is there, in PEM, is something else."""
    if cert is not None and b"-----BEGIN CERTIFICATE-----" not in cert:
        raise Fault("not a PEM certificate", "cert")
    if key is not None and b"PRIVATE KEY-----" not in key:
        raise Fault("not a PEM private key", "key")


def load(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    """Load a certificate chain and its private key, both PEM, into `context`. Raises Fault at "cert" or "key"."""
    check_form(cert, key)
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
        raise (_mismatch(cert, key) or Fault(message, at)) from None
    finally:
        for descriptor in files:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Validity:
    """The time for which a certificate is valid, both in seconds since 1970."""

    not_before: int
    not_after: int

    def state(self, now: float) -> State:
        """Return the state at a time; "expiring" begins 14 days before the end, or at four fifths of a short life."""
        if now >= self.not_after:
            return "expired"
        if now < self.not_before:
            return "not_yet_valid"
        soon = min(SOON, (self.not_after - self.not_before) * LAST_PART)
        return "expiring" if self.not_after - now < soon else "valid"

    def concern(self, now: float) -> str:
        """Return what is wrong with the validity at a time; empty: nothing."""
        match self.state(now):
            case "expired":
                return f"the certificate expired on {_date(self.not_after)}; clients refuse it: renew it"
            case "not_yet_valid":
                return f"the certificate is not valid before {_date(self.not_before)}; clients refuse it until then"
            case "expiring":
                return f"the certificate expires on {_date(self.not_after)}: renew it"
        return ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says. `names`: its DNS names in lower case, or else its common name."""

    names: tuple[str, ...]
    kind: str
    """The kind of its key, such as "RSAPublicKey"; "unknown" if cryptography does not know it."""
    validity: Validity
    disorder: str
    """What is wrong with the order of the certificates after it; empty: nothing."""
    ocsp_until: int
    """End of validity of its OCSP response, in seconds since 1970; 0: there is none."""

    def concerns(self, now: float) -> Iterator[str]:
        """Yield what is probably a mistake, for people."""
        yield from filter(None, (self.validity.concern(now), self.disorder))


def facts(cert: bytes, response: bytes = b"") -> Facts:
    """The facts of the first certificate of a PEM file, which OpenSSL could read. Raises Fault."""
    try:
        chain = x509.load_pem_x509_certificates(cert)
        first = chain[0]
        validity = Validity(int(first.not_valid_before_utc.timestamp()), int(first.not_valid_after_utc.timestamp()))
        names = _names(first)
    except ValueError as error:
        raise Fault(f"the certificate does not follow the standard: {error}", "cert") from None
    until = _ocsp_until(response, first) if response else 0
    return Facts(names, _kind(first), validity, _disorder(chain), until)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The common name is used only if there are no other names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(str(name.value).lower() for name in common)


def _kind(certificate: x509.Certificate) -> str:
    try:
        return type(certificate.public_key()).__name__
    except (UnsupportedAlgorithm, ValueError):
        return "unknown"


def _disorder(chain: Sequence[x509.Certificate]) -> str:
    """Each certificate should certify the one before it (RFC 8446 section 4.4.2): not all clients sort them."""
    for number, (one, issuer) in enumerate(pairwise(chain), 2):
        if one.issuer != issuer.subject:
            names = _name(issuer), _name(one)
            return (
                f"the order of the file is wrong: its certificate {number} ({names[0]}) has not issued the one before "
                f"it ({names[1]}), and some clients refuse that: put each issuer after what it has issued"
            )
    return ""


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()[:100]


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _ocsp_until(content: bytes, certificate: x509.Certificate) -> int:
    """The end of validity of an OCSP response (DER), in seconds since 1970. Raises Fault at "ocsp"."""
    try:
        found = ocsp.load_der_ocsp_response(content)
        if found.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise Fault(f"the OCSP response says {found.response_status.name.lower()}", "ocsp")
        serial, until = found.serial_number, found.next_update_utc
    except ValueError as error:
        if isinstance(error, Fault):
            raise
        raise Fault("not an OCSP response in DER", "ocsp") from None
    if serial != certificate.serial_number:
        raise Fault("the OCSP response is for another certificate", "ocsp")
    return int(until.timestamp()) if until is not None else 1 << 62


def _mismatch(cert: bytes, key: bytes) -> Fault | None:
    """What is wrong if a key is not the first certificate's; None: it is, or nobody can tell."""
    with contextlib.suppress(ValueError, UnsupportedAlgorithm):
        own, chain = private_key.load(key), x509.load_pem_x509_certificates(cert)
        if own is None or chain[0].public_key() == own.public_key():
            return None
        for number, found in enumerate(chain, 1):
            if found.public_key() == own.public_key():
                return Fault(f"the key belongs to certificate {number} of the file: put that one first", "cert")
        return Fault("the certificate does not belong to this key", "key")
    return None


def load_cas(context: ssl.SSLContext, content: bytes) -> None:
    """Let `context` trust the CA certificates of a PEM file. Raises Fault."""
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        raise Fault("no CA certificates in PEM") from None


def _no_password() -> str:
    """Replaces OpenSSL's prompt on the terminal."""
    raise Fault("the key is encrypted: remove its pass phrase, because the gateway starts unattended", "key")
