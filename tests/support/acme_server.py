"""What the certificate authorities that tests start have in common."""

import subprocess
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority


class AcmeServer:
    """A program that speaks ACME at `url`, whose log is `NAME.log` in the directory."""

    name: str
    url: str

    def __init__(self, directory: Path, authority: Authority, http_port: int, tls_port: int) -> None:
        self._directory = directory
        self._authority = authority
        self.http_port, self.tls_port = http_port, tls_port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        """The file of its log."""
        return self._directory / f"{self.name}.log"

    @property
    def log(self) -> str:
        """What it has said."""
        return self.log_path.read_text()

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def site(self, *names: str | list[str], **more: Any) -> dict[str, Any]:
        """The `tls:` of a frontend that gets its certificates here."""
        model = {"directory": self.url, "names": list(names), "email": "a@example.com", "ca": str(self._authority.ca)}
        return {"acme": {**model, **more}}
