"""A loaded site with its version: what every process works from until the next reload."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gateway.config import discovery
from gateway.config.apache import Rules
from gateway.config.discovery import Found, Question
from gateway.config.loader import Endpoint, Loaded
from gateway.config.model import Route, Site

CAPACITY: Final = 16384
"""Rows of the board."""


NOTHING: Final[Found] = MappingProxyType({})


class CapacityError(Exception):
    """There are more servers than rows for them."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The compiled, immutable site file.

    In `site`, servers that were found stand in the place of their dns: entries; `questions` are what to ask for
    them. `slots` gives each (backend, server) its row of the board. A server keeps its row for as long as its names
    and its place stay the same; anything else is another server, and gets another row.
    """

    version: int
    path: Path
    """Of the site file, with nothing relative about it."""
    digest: str
    """See Loaded."""
    site: Site
    files: Mapping[Path, bytes]
    rules: Mapping[Path, Rules]
    resolved: Mapping[tuple[str, str], Endpoint]
    slots: Mapping[tuple[str, str], int]
    questions: frozenset[Question]
    found: Found
    """What the name service said, for the servers of dns: entries."""
    capacity: int
    unused: int
    """The first row that was never used; so are all above it."""
    freed: tuple[int, ...]
    """Rows given back, longest ago first."""

    @classmethod
    def first(cls, loaded: Loaded, found: Found = NOTHING, capacity: int = CAPACITY) -> "Snapshot":
        """The snapshot a gateway starts with. Raises CapacityError."""
        nothing = cls(0, loaded.path, "", loaded.site, {}, {}, {}, {}, frozenset(), NOTHING, capacity, 0, ())
        return nothing.next(loaded, found)

    def with_routes(self, routes: tuple[Route, ...], rules: Mapping[Path, Rules]) -> "Snapshot":
        """The same with other routes, and rules of Apache in them."""
        return replace(self, site=self.site.model_copy(update={"routes": routes}), rules=rules)

    def members(self, backend: str) -> list[tuple[int, float, int, bool, str]]:
        """The servers of a backend as balance.policy.Members takes them."""
        return [
            (
                self.slots[backend, server.name],
                float(server.weight),
                server.max_connections or 0,
                server.backup,
                server.name,
            )
            for server in self.site.backends[backend].servers
        ]

    def follow(self, loaded: Loaded, found: Found) -> "Snapshot":
        """The snapshot of the same site file once the name service says something else. Raises CapacityError."""
        return replace(self.next(loaded, found), version=self.version)

    def next(self, loaded: Loaded, found: Found = NOTHING) -> "Snapshot":
        """The snapshot that follows this one. Raises CapacityError."""
        questions = discovery.questions(loaded.site)
        loaded = discovery.expand(loaded, found)
        kept = {
            server: row for server, row in self.slots.items() if loaded.resolved.get(server) == self.resolved[server]
        }
        left = tuple(row for server, row in self.slots.items() if server not in kept)
        # Requests may still be in flight on a row given back: it must not count against a new server before
        # it has to, so rows never used go first and those just given back last.
        rows = (*range(self.unused, self.capacity), *self.freed, *left)
        new = [server for server in loaded.resolved if server not in kept]
        if len(new) > len(rows):
            message = f"{len(loaded.resolved)} servers, and the gateway has room for {self.capacity}"
            raise CapacityError(message)
        return Snapshot(
            version=self.version + 1,
            path=Path(os.path.realpath(loaded.path)),
            digest=loaded.digest,
            site=loaded.site,
            files=loaded.files,
            rules=dict(loaded.rules),
            resolved=loaded.resolved,
            questions=questions,
            found=dict(found),
            slots={**kept, **dict(zip(new, rows, strict=False))},
            capacity=self.capacity,
            unused=min(self.unused + len(new), self.capacity),
            freed=tuple(row for row in rows[len(new) :] if row < self.unused),
        )
