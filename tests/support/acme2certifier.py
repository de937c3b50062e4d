"""acme2certifier, an authority that says when to renew (RFC 9773): it really looks at what it certifies."""

import os
import subprocess
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support.acme_server import AcmeServer
from tests.support.backend_server import ROOT
from tests.support.certificates import Authority
from tests.support.waiting import answers, eventually, free_port

PYTHON = ROOT / "build" / "acme2certifier" / "bin" / "python"

needs_acme2certifier = pytest.mark.skipif(not PYTHON.exists(), reason="left out: make acme2certifier")

CONFIGURATION = """\
[DEFAULT]
debug: False
[CAhandler]
handler_module: acme2certifier.cahandlers.openssl_ca_handler
issuing_ca_key: {key}
issuing_ca_cert: {ca}
issuing_ca_crl: {directory}/issuer.crl
cert_save_path: {directory}/issued
ca_cert_chain_list: []
cert_validity_days: {days}
[DBhandler]
handler: wsgi
dbfile: {directory}/acme.db
[Renewalinfo]
renewal_force: {force}
retry_after_timeout: 3600
[Order]
identifier_support: dns,ip
"""


class Acme2Certifier(AcmeServer):
    """A running one, with an authority whose certificates are valid for so many days.

    It knows everything again when it is started again.
    """

    name = "acme2certifier"

    def __init__(self, directory: Path, authority: Authority, http_port: int, tls_port: int, days: int) -> None:
        super().__init__(directory, authority, http_port, tls_port)
        self._days = days
        self._port = free_port()
        self.url = f"https://127.0.0.1:{self._port}/directory"

    def start(self, *, force: bool = False) -> None:
        """Start it; `force`: it says that each certificate is to be renewed at once."""
        own, key = self._authority.issue("127.0.0.1"), self._directory / "issuer.key"
        key.write_bytes(self._authority.key_pem)
        (self._directory / "issued").mkdir(exist_ok=True)
        configuration = self._directory / "acme_srv.cfg"
        configuration.write_text(
            CONFIGURATION.format(
                key=key, ca=self._authority.ca, days=self._days, directory=self._directory, force=force
            )
        )
        script = ROOT / "tests" / "support" / "acme2certifier_server.py"
        command: list[str | Path] = [
            PYTHON,
            "-P",
            script,
            str(self._port),
            own.cert,
            own.key,
            str(self.http_port),
            str(self.tls_port),
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                env={**os.environ, "ACME_SRV_CONFIGFILE": str(configuration)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(partial(answers, "127.0.0.1", self._port), "acme2certifier to answer")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
