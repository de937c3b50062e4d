"""Shared by tests of connection lifetimes: listeners, a second client, counts, an unreachable server."""

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from click.testing import CliRunner

from gateway.cli import main
from tests.conformance.recorder import Recorder
from tests.support.gateway_process import GatewayProcess
from tests.support.half_client import HalfClient
from tests.support.raw import RawClient
from tests.support.waiting import eventually

BESIDE: dict[str, Any] = {"match": {"path": "= /beside"}, "respond": {"status": 204}}


@dataclass(frozen=True, slots=True)
class Door:
    """A kind of listener: plain, or TLS if there is a `context`; `frontend` has its keys of the site file."""

    context: ssl.SSLContext | None
    frontend: dict[str, Any]

    def site(self, backends: dict[str, Any], *routes: dict[str, Any], port: int, **frontend: Any) -> dict[str, Any]:
        """Return a site of one worker with this listener at `port`, and a route that needs no server."""
        return {
            "workers": 1,
            "drain": "1s",
            "frontends": [{"name": "web", "listen": f"127.0.0.1:{port}", **self.frontend, **frontend}],
            "backends": backends,
            "routes": [BESIDE, *(routes or [{"backend": next(iter(backends))}])],
        }

    def raw(self, gateway: GatewayProcess) -> RawClient:
        """Return a client that reads whole answers."""
        return RawClient(gateway.port, self.context)

    def half(self, gateway: GatewayProcess) -> HalfClient:
        """Return a client that can end its half."""
        return HalfClient(gateway.port, self.context)

    @contextmanager
    def beside(self, gateway: GatewayProcess) -> Iterator[RawClient]:
        """Connect a client for the time of the block, and hold the gateway to this: it is served afterwards as before,
        and no process has died.
        """
        with self.raw(gateway) as client:
            look_around(client)
            before, since = (gateway.workers(), gateway.control()), len(gateway.log)
            yield client
            look_around(client)
            assert (gateway.workers(), gateway.control()) == before, gateway.log[since:]
            assert "was killed" not in gateway.log[since:]


def look_around(client: RawClient) -> None:
    """Ask twice for what the worker itself answers: then it has seen whatever had happened before on its connections.

    What the kernel has to say of other connections comes with the first question at the latest, and is handled before
    the second.
    """
    assert [client.get("/beside").status for _ in range(2)] == [204, 204]


@dataclass(frozen=True, slots=True)
class Counts:
    """Connections of clients that are open, requests at servers, failures of servers."""

    open: int
    in_flight: int
    failures: int


def counts(gateway: GatewayProcess) -> Counts:
    """What `gateway status` says, over all frontends and servers. Raises AssertionError."""
    said: list[str] = []

    def ask() -> bool:  # control listens a little later than it starts
        done = CliRunner().invoke(main, ["status", str(gateway.path), "--json"])
        said.append(done.output)
        return done.exit_code == 0

    eventually(ask, "control to answer")
    report = json.loads(said[-1])
    servers = [server for backend in report["backends"] for server in backend["servers"]]
    return Counts(
        sum(frontend["open"] for frontend in report["frontends"]),
        sum(server["in_flight"] for server in servers),
        sum(server["failures"] for server in servers),
    )


def becomes_quiet(gateway: GatewayProcess, seconds: float = 5.0) -> None:
    """Wait until only the client beside is connected, and no server works. Raises AssertionError."""
    seen: list[Counts] = []

    def quiet() -> bool:
        seen.append(counts(gateway))
        return (seen[-1].open, seen[-1].in_flight) == (1, 0)

    try:
        eventually(quiet, "all counts to return", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen[-1]}") from None


class ShutServer(Recorder):
    """A server to which connect() stays pending until `open`.

    Its queue of connections is full, so the kernel drops every SYN; it is sent again after a second (RFC 6298).
    """

    def __init__(self) -> None:
        super().__init__()
        self._listener.listen(0)
        self._in_the_way: list[socket.socket] = []
        for _ in range(2):
            client = socket.socket()
            client.settimeout(0.0)
            with contextlib.suppress(BlockingIOError):
                client.connect(("127.0.0.1", self.port))
            self._in_the_way.append(client)

    def asked(self, gateway: GatewayProcess) -> int:
        """How many calls of connect() to it are pending in the workers of a gateway."""
        return sum(
            item.status == psutil.CONN_SYN_SENT and item.raddr.port == self.port
            for pid in gateway.workers().values()
            for item in psutil.Process(pid).net_connections("tcp")
            if item.raddr
        )

    def open(self) -> None:
        """Accept connections from now on."""
        self._listener.listen(128)
        while self._in_the_way:
            self._in_the_way.pop().close()
        super().__enter__()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._in_the_way:
            self.open()
        super().__exit__(kind, error, trace)


class Log:
    """An access log in JSON."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "access.log"
        self.section = {"path": str(self.path)}

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The lines that are there; each must be whole."""
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def statuses(self, uri: str) -> list[int]:
        """The statuses of all requests for `uri` that are written by now."""
        return [entry["status"] for entry in self.entries if entry["uri"] == uri]

    def wait_for(self, uri: str, *statuses: int) -> None:
        """Wait until just these are written. Raises AssertionError."""
        try:
            eventually(lambda: self.statuses(uri) == list(statuses), f"{statuses} for {uri}", 5.0)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.statuses(uri)}") from None
