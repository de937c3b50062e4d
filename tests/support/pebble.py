"""pebble, a small authority of Let's Encrypt for tests (Debian's package): it really looks at what it certifies."""

import json
import os
import shutil
import ssl
import subprocess
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import httpx
import pytest

from tests.support.acme_server import AcmeServer
from tests.support.certificates import Authority
from tests.support.name_server import NameServer
from tests.support.waiting import answers, eventually, free_port

needs_pebble = pytest.mark.skipif(shutil.which("pebble") is None, reason="pebble is not installed (Debian: pebble)")


class Pebble(AcmeServer):
    """A running one. It finds names by `names`, and looks at `http_port` and `tls_port` of what it finds.

    It forgets everything when it is stopped. `customers`: keys of external accounts by their identifiers; with some, it
    takes orders of these only.
    """

    name = "pebble"

    def __init__(
        self, directory: Path, authority: Authority, http_port: int, tls_port: int, **environment: str
    ) -> None:
        super().__init__(directory, authority, http_port, tls_port)
        self._environment = environment
        self.customers: dict[str, str] = {}
        self._port, self._management = free_port(), free_port()
        self.names = NameServer()
        self.url = f"https://127.0.0.1:{self._port}/dir"

    def know(self, name: str, address: str = "127.0.0.1") -> None:
        """Let a name have an address."""
        self.names.records[name, "AAAA" if ":" in address else "A"] = [address]

    def start(self) -> Self:
        """Start it; it begins without any account or order."""
        own = self._authority.issue("127.0.0.1")
        config = {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(own.cert),
            "privateKey": str(own.key),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
        }
        if self.customers:
            config |= {"externalAccountBindingRequired": True, "externalAccountMACKeys": self.customers}
        path = self._directory / f"pebble-{self._port}.json"
        path.write_text(json.dumps({"pebble": config}))
        command = ["pebble", "-config", str(path), "-dnsserver", f"127.0.0.1:{self.names.port}"]
        with self.log_path.open("ab") as log:
            self._process = self._run(command, log)
        eventually(partial(answers, "127.0.0.1", self._port), "pebble to answer")
        return self

    def _run(self, command: list[str], log: BinaryIO) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            env={**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", **self._environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def roots(self) -> ssl.SSLContext:
        """What a client needs that trusts it."""
        context = self._authority.client_context()
        found = httpx.get(f"https://127.0.0.1:{self._management}/roots/0", verify=context)
        return ssl.create_default_context(cadata=found.text)

    def __enter__(self) -> Self:
        self.names.__enter__()
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.names.__exit__(kind, error, trace)
