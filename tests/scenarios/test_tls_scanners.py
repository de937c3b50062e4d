"""What scanners of TLS find: nothing above LOW that concerns the gateway."""

import datetime as dt
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend_server import ROOT, BackendServer
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import SEARCH, needs

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
DAY = dt.timedelta(days=1)
SSLYZE = ROOT / "build" / "sslyze" / "bin" / "sslyze"
"""In an environment of its own (make sslyze): it needs older versions of the gateway's dependencies."""
OF_THE_SITE = ("cert_revocation", "DNS_CAArecord", "security_headers")
"""Findings about what is not the gateway's: the authority of the tests has no lists of revoked certificates and no
domain, and the servers say nothing of frames and scripts.
"""
LOW = ("OK", "INFO", "LOW", "WARN", "DEBUG")
"""Severities of testssl.sh up to LOW; WARN is about the scanner itself."""

SCANS = [
    f"--{name}"
    for name in (
        *(
            "sslv2",
            "sslv3",
            "tlsv1",
            "tlsv1_1",
            "tlsv1_2",
            "tlsv1_3",
            "early_data",
            "compression",
            "reneg",
            "heartbleed",
        ),
        *("robot", "openssl_ccs", "fallback", "ems", "elliptic_curves"),
    )
]
"""Of sslyze."""


@pytest.fixture
def gateway(start_gateway: Starter, start_servers: Servers, authority: Authority) -> GatewayProcess:
    """One with the default policy, both kinds of keys and HTTP/2."""
    description = site(start_servers("app1"))
    certificates = [
        authority.issue("localhost", "127.0.0.1", kind=kind, valid=(-DAY, 89 * DAY)).as_site() for kind in ("ec", "rsa")
    ]
    description["frontends"][0] |= {"http2": True, "tls": {"certificates": certificates, "hsts": "365d"}}
    return start_gateway(description)


@needs("testssl")
@pytest.mark.timeout(600)
def test_testssl_finds_nothing_above_low(gateway: GatewayProcess, authority: Authority, tmp_path: Path) -> None:
    report = tmp_path / "testssl.json"
    scans = ["--protocols", "--std", "--fs", "--server-preference", "--server-defaults", "--headers", "--vulnerable"]
    done = subprocess.run(
        ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--add-ca", str(authority.ca),
         "--jsonfile", str(report), *scans, f"127.0.0.1:{gateway.port}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=590,
        env={**os.environ, "PATH": SEARCH},
    )  # fmt: skip
    findings = json.loads(report.read_text())
    seen = {finding["id"] for finding in findings}
    assert {"TLS1_3", "heartbleed", "secure_client_renego", "HSTS_time", "ROBOT", "BREACH"} <= seen, done.stdout
    bad = [
        finding for finding in findings if finding["severity"] not in LOW and not finding["id"].startswith(OF_THE_SITE)
    ]
    assert bad == [], done.stdout
    # Of TLS 1.3, finite fields are not offered either: a client could make the server compute for long.
    assert [finding for finding in findings if "ffdhe" in finding["finding"]] == [], done.stdout


@pytest.mark.skipif(not SSLYZE.exists(), reason="not installed: sslyze (make sslyze)")
@pytest.mark.timeout(300)
def test_sslyze_finds_modern_suites_and_no_weakness(gateway: GatewayProcess, tmp_path: Path) -> None:
    report = tmp_path / "sslyze.json"
    subprocess.run(
        [SSLYZE, "--json_out", report, *SCANS, f"127.0.0.1:{gateway.port}"],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=290,
    )  # fmt: skip
    (scan,) = json.loads(report.read_text())["server_scan_results"]
    assert scan["scan_status"] == "COMPLETED"

    def result(name: str) -> dict[str, Any]:
        found = scan["scan_result"][name]
        assert found["status"] == "COMPLETED", found
        assert isinstance(found["result"], dict)
        return found["result"]

    versions = {name: result(f"{name}_cipher_suites") for name in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")}
    assert {name for name, found in versions.items() if found["is_tls_version_supported"]} == set()
    for name, count in (("tls_1_2", 6), ("tls_1_3", 3)):
        suites = result(f"{name}_cipher_suites")["accepted_cipher_suites"]
        assert len(suites) == count
        assert all(suite["ephemeral_key"]["type_name"] == "ECDH" for suite in suites)
    curves = {curve["name"] for curve in result("elliptic_curves")["supported_curves"]}
    assert curves == {"X25519", "secp256r1", "secp384r1"}
    renegotiation = result("session_renegotiation")
    assert renegotiation["supports_secure_renegotiation"]
    assert not renegotiation["is_vulnerable_to_client_renegotiation_dos"]
    assert not result("tls_1_3_early_data")["supports_early_data"]
    assert not result("tls_compression")["supports_compression"]
    assert not result("openssl_ccs_injection")["is_vulnerable_to_ccs_injection"]
    assert not result("heartbleed")["is_vulnerable_to_heartbleed"]
    assert result("robot")["robot_result"].startswith("NOT_VULNERABLE")
    assert result("tls_fallback_scsv")["supports_fallback_scsv"]
    assert result("tls_extended_master_secret")["supports_ems_extension"]
