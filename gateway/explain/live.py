"""The running gateway as explain sees it: its board, and the servers of its rows."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from gateway import __version__
from gateway.board import Board
from gateway.config import discovery
from gateway.config.discovery import Found
from gateway.config.loader import Endpoint, Loaded
from gateway.config.overrides import Override, Overrides
from gateway.config.snapshot import Snapshot
from gateway.control.status import BOARD, NAME, TIMEOUT
from gateway.system import plain_json, private_socket
from gateway.system.running import Running


class NoAnswer(Exception):
    """No running gateway answers; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Live:
    """A running gateway: its board, mapped read-only, so that every read is current."""

    board: Board
    version: int
    digest: str
    """Of its site file."""
    servers: dict[tuple[str, str], tuple[str, Endpoint, int]]
    """(backend, server) → address as in the site file, resolved address, row."""
    found: Found
    weights: dict[str, int]
    """What commands have set; the admin states are on the board."""

    @classmethod
    def ask(cls, loaded: Loaded, gateway: Running) -> Self:
        """Query the gateway that was started with the file of `loaded`. Raises NoAnswer."""
        path = gateway.sockets / NAME
        try:
            answer, descriptors = private_socket.ask(path, BOARD, TIMEOUT, gateway.pid)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise NoAnswer(f"no response from the gateway at {path}: {reason}") from None
        try:
            return cls._of(answer, descriptors, loaded, path)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    @classmethod
    def _of(cls, answer: bytes, descriptors: list[int], loaded: Loaded, path: Path) -> Self:
        try:
            facts: dict[str, Any] = plain_json.parse(answer)
            (descriptor,) = descriptors
        except ValueError:
            raise NoAnswer(f"the gateway at {path} is busy or stopping") from None
        if facts["program"] != __version__:
            raise NoAnswer(f"the gateway at {path} is version {facts['program']}, this is {__version__}")
        if facts["site"] != os.path.realpath(loaded.path):
            raise NoAnswer(f"the gateway at {path} runs {facts['site']}: each needs its own admin.sockets")
        try:
            board = Board(descriptor)
        except OSError as error:
            raise NoAnswer(f"the gateway at {path}: {error}") from None
        return cls(
            board,
            facts["version"],
            facts["digest"],
            {
                (backend, server): (address, where if isinstance(where, str) else (where[0], where[1]), slot)
                for backend, server, address, where, slot in facts["servers"]
            },
            discovery.found(facts["found"]),
            facts["weights"],
        )

    def snapshot(self, loaded: Loaded) -> Snapshot:
        """The snapshot that the gateway would use if it loaded `loaded` now. Raises CapacityError."""
        first = Snapshot.first(loaded)
        running = replace(
            first,
            version=self.version,
            resolved={key: where for key, (_, where, _) in self.servers.items()},
            server_rows=replace(
                first.server_rows,
                of={key: slot for key, (_, _, slot) in self.servers.items()},
                unused=1 + max((slot for _, _, slot in self.servers.values()), default=-1),
                freed=(),
            ),
        )
        written = {
            (backend.name, server.name): str(server.address)
            for backend in loaded.site.backends.values()
            for server in backend.servers
        }
        known = {key: where for key, (address, where, _) in self.servers.items() if written.get(key) == address}
        weights = {target: Override(weight=weight) for target, weight in self.weights.items()}
        running = running.with_overrides(Overrides(weights))
        return running.next(replace(loaded, resolved={**loaded.resolved, **known}), self.found)

    def remark(self, loaded: Loaded) -> str:
        """A remark for the reader of the figures."""
        if loaded.digest == self.digest:
            return f"state of the running gateway, load {self.version} of the site file"
        return "state of the running gateway, which has not loaded this site file yet: reload it"
