"""TLS of health checks: as that of requests, by Python's ssl."""

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from gateway.config import certificate
from gateway.health.result import Outcome
from gateway.outcome import tls_failure

H2: Final = "h2"
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS with a server.

    `name` is what its certificate must be for and what it is asked for; `cas` the CAs to trust, PEM, None: any
    certificate is accepted. `pair` is a certificate chain and its key to show, PEM.
    """

    name: str
    cas: bytes | None = field(repr=False)
    min_version: str = "1.2"
    pair: tuple[bytes, bytes] | None = field(default=None, repr=False)


@lru_cache(maxsize=256)
def context(tls: Tls, protocol: str = "http/1.1") -> ssl.SSLContext:
    """What asyncio wants, offering `protocol` (ALPN)."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = _VERSIONS[tls.min_version]
    made.set_alpn_protocols([protocol])
    if tls.cas is None:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        certificate.load_cas(made, tls.cas)
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.pair is not None:
        certificate.load(made, *tls.pair)
    return made


def options(tls: Tls | None, protocol: str = "http/1.1") -> dict[str, Any]:
    """The arguments for it of asyncio.open_connection and similar functions."""
    return {} if tls is None else {"ssl": context(tls, protocol), "server_hostname": tls.name}


def failure(error: ssl.SSLError) -> tuple[Outcome, str]:
    """What an error of TLS is called, and why."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Outcome[tls_failure(error.verify_code).upper()], error.verify_message
    reason = (error.reason or str(error)).lower().replace("_", " ")
    return (Outcome.TLS_NOT_SPOKEN if error.reason == "WRONG_VERSION_NUMBER" else Outcome.TLS_FAILED), reason
