"""Gateways that the tests of a module use one after the other: a reload takes a small part of the time of a start."""

import contextlib
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import pytest

from tests.support.gateway_process import GatewayProcess, Site, listeners
from tests.support.waiting import free_port

GONE = 10.0
"""Seconds until clients must be gone that a test has left."""
CONTROL_USES = re.compile(r"\bcontrol uses load (\d+)")


class LentGateway(GatewayProcess):
    """A gateway that has one site after another, by reloads.

    Between two sites it has one without servers: no counter, state or connection of the one before is left then.
    `log` and `output` are what has come since the present site was loaded.
    """

    def __init__(self, directory: Path, description: Site) -> None:
        super().__init__(directory, description)
        self._log_began = 0  # in characters of the whole log
        self._output_began = 0
        self._had: tuple[dict[int, int], int | None] = ({}, None)

    @property
    def log(self) -> str:
        """What the gateway has said since it has the present site."""
        return self._said[self._log_began :]

    @property
    def output(self) -> str:
        """Its standard output since it has the present site."""
        return super().output[self._output_began :]

    def take(self, description: Site) -> None:
        """Have another site from now on."""
        self._log_began, self._output_began = len(self._said), len(super().output)
        self._load(description)

    def note_processes(self) -> None:
        """Take note of the processes that `rest` finds again."""
        self._had = (self.workers(), self.control())

    def rest(self) -> None:
        """Have a site without servers. Raises AssertionError if clients are connected or a process was replaced."""
        self.refuse_deaths()
        assert self.process.poll() is None, f"the gateway has ended\n{self.log}"
        workers, control = self._had
        now = self.workers()
        lost = [number for number in workers.keys() & now.keys() if now[number] != workers[number]]
        assert now.get(0) == workers[0], f"worker 0 was replaced\n{self.log}"
        assert not lost, f"workers {lost} were replaced\n{self.log}"
        assert self.control() == control, f"control was replaced\n{self.log}"
        self._wait(lambda: not self._clients(), "all clients to be gone", GONE)
        self._load(resting())
        self.refuse_deaths()

    def _load(self, description: Site) -> None:
        """Load a site, and return when every process works by it. Raises AssertionError."""
        since = len(self.log)
        said = self.reload(description)
        assert "reloaded: " in said, self.log
        version = int(said.partition("version ")[2].split()[0])
        self._wait_for_all()
        self._wait(
            lambda: version <= max(map(int, CONTROL_USES.findall(self.log, since)), default=0),
            f"control to use version {version}",
        )

    def _clients(self) -> list[Any]:
        """The connections of clients in the workers."""
        ports = {port for _, port in listeners(self.site)}
        found = []
        for pid in self.workers().values():
            with contextlib.suppress(psutil.NoSuchProcess):  # one that finished
                found += psutil.Process(pid).net_connections("tcp")
        return [connection for connection in found if connection.raddr and connection.laddr.port in ports]


def resting() -> dict[str, Any]:
    """A site without servers."""
    return {
        "workers": 1,
        "drain": "2s",
        "frontends": [{"name": "rest", "listen": f"127.0.0.1:{free_port()}"}],
        "routes": [{"respond": {"status": 204}}],
    }


class Lender:
    """Has as many gateways as were lent at a time. A context manager: they end with it."""

    def __init__(self, directories: pytest.TempPathFactory) -> None:
        self._directories = directories
        self._idle: list[LentGateway] = []

    @contextmanager
    def lend(self, description: Site) -> Iterator[LentGateway]:
        """A gateway with that site for the time of the block.

        Raises AssertionError if the block has not left it as it was; then it ends, and no other test gets it.
        """
        with ExitStack() as stack:
            if self._idle:
                gateway = self._idle.pop()
                stack.push(gateway)
                gateway.take(description)
            else:
                gateway = stack.enter_context(LentGateway(self._directories.mktemp("lent"), description))
            gateway.note_processes()
            yield gateway
            gateway.rest()
            stack.pop_all()
            self._idle.append(gateway)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            while self._idle:
                stack.push(self._idle.pop())
