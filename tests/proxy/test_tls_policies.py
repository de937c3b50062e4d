"""The cipher policies beside Mozilla's definitions."""

import ssl

import pytest

from gateway.config.model import Tls
from gateway.proxy.tls import CIPHERS

INTERMEDIATE = {
    f"ECDHE-{kind}-{cipher}"
    for kind in ("ECDSA", "RSA")
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
}
"""https://ssl-config.mozilla.org/guidelines/6.0.json"""
CBC = {
    f"ECDHE-{kind}-{cipher}"
    for kind in ("ECDSA", "RSA")
    for cipher in ("AES128-SHA256", "AES128-SHA", "AES256-SHA384", "AES256-SHA")
}
RSA = {f"AES{bits}-{digest}" for bits in (128, 256) for digest in ("SHA256", "SHA")}
OLD = INTERMEDIATE | CBC | RSA | {"AES128-GCM-SHA256", "AES256-GCM-SHA384", "DES-CBC3-SHA"}
"""https://ssl-config.mozilla.org/guidelines/5.8.json, but for DHE-…"""


def suites(ciphers: bytes) -> set[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(ciphers.decode())
    return {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"}


def test_intermediate_is_mozilla_s() -> None:
    assert suites(CIPHERS["intermediate"]) == INTERMEDIATE


def test_old_is_mozilla_s_without_diffie_hellman_in_finite_fields() -> None:
    """Distributions leave 3DES out of OpenSSL."""
    assert suites(CIPHERS["old"]) | {"DES-CBC3-SHA"} == OLD


@pytest.mark.parametrize("policy, oldest", [("modern", "1.3"), ("intermediate", "1.2"), ("old", "1.0")])
def test_the_oldest_version_is_mozilla_s(policy: str, oldest: str) -> None:
    assert Tls.model_validate({"certificates": [{"directory": "a"}], "policy": policy}).min_version == oldest
