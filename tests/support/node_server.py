"""Node's http as a back-end server, see node_server.js."""

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ending import wait_or_kill
from tests.support.waiting import answers, eventually, free_port


class NodeServer:
    """A context manager: Node on a port of 127.0.0.1, with its http or its http2."""

    def __init__(self, module: str = "http") -> None:
        self._module = module
        self.name = "node"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """As a site file wants it."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        script = Path(__file__).with_name("node_server.js")
        process = subprocess.Popen(["node", str(script), str(self._port), self._module], stdin=subprocess.PIPE)
        self._process = process
        eventually(lambda: process.poll() is not None or answers("127.0.0.1", self._port), "Node to accept", 20.0)
        assert process.poll() is None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        wait_or_kill(self._process, 5.0)
