"""A loaded site with a version: all processes use it until the next reload."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from gateway.config import discovery
from gateway.config.apache_rules import Program, Rules
from gateway.config.discovery import Found, Question
from gateway.config.loader import Endpoint, Loaded
from gateway.config.maps import Tables
from gateway.config.model import Route, Server, Site
from gateway.config.overrides import Overrides
from gateway.config.places import Database
from gateway.config.rows import Rows

SERVERS: Final = 16384
TRAFFIC: Final = 4096
"""Rows of the board's tables."""

NOTHING: Final[Found] = MappingProxyType({})

ServerKey = tuple[str, str]
"""Backend and server."""
TrafficKey = tuple[Literal["frontend", "backend", "class", "share"], str]
"""The kind of thing that counts requests, and its name; of a share, class and backend."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The compiled, immutable site file.

    In `site`, discovered servers replace their dns: entries; `questions` are the queries for them. A server keeps its
    row of the board while its names and its address are unchanged; otherwise it is a different server, and gets another
    row. Frontends, backends and classes keep their rows by name.
    """

    version: int
    path: Path
    """Absolute path of the site file."""
    digest: str
    """See Loaded."""
    site: Site
    files: Mapping[Path, bytes]
    rules: Mapping[Path, Rules]
    resolved: Mapping[ServerKey, Endpoint]
    server_rows: Rows[ServerKey]
    traffic_rows: Rows[TrafficKey]
    questions: frozenset[Question]
    found: Found
    """The answers of the name service for servers of dns: entries."""
    overrides: Overrides = field(default_factory=Overrides)
    """What an operator's commands have set over the site file; weights in `site` are the file's."""
    maps: Tables = field(default_factory=dict)
    database: Database | None = None
    """Where clients are, for the name server."""
    routes_at: tuple[str, ...] = ()
    """The line of each route in the site file."""
    programs: frozenset[Program] = frozenset()
    """Those that answer keys of maps."""

    @classmethod
    def first(cls, loaded: Loaded, found: Found = NOTHING, capacity: int = SERVERS) -> "Snapshot":
        """The snapshot at the start of a gateway. Raises CapacityError."""
        servers: Rows[ServerKey] = Rows("servers", capacity)
        traffic: Rows[TrafficKey] = Rows("frontends, backends and classes", TRAFFIC)
        nothing = cls(0, loaded.path, "", loaded.site, {}, {}, {}, servers, traffic, frozenset(), NOTHING)
        return nothing.next(loaded, found)

    @property
    def slots(self) -> Mapping[ServerKey, int]:
        """The row of each server on the board."""
        return self.server_rows.of

    @property
    def traffic(self) -> Mapping[TrafficKey, int]:
        """The row of each frontend, backend and class on the board."""
        return self.traffic_rows.of

    def with_routes(self, routes: tuple[Route, ...], rules: Mapping[Path, Rules]) -> "Snapshot":
        """The same snapshot with other routes and Apache rules."""
        return replace(self, site=self.site.model_copy(update={"routes": routes}), rules=rules)

    def with_maps(self, maps: Tables) -> "Snapshot":
        """The same snapshot with these tables of its maps."""
        return replace(self, maps=maps)

    def with_database(self, database: Database | None) -> "Snapshot":
        """The same snapshot with this MaxMind file."""
        return replace(self, database=database)

    def members(self, backend: str) -> list[tuple[int, float, int, bool, str]]:
        """The servers of a backend in the form that balance.policy.Members needs."""
        return [
            (
                self.slots[backend, server.name],
                float(self.weight(backend, server)),
                server.max_connections or 0,
                server.backup,
                server.name,
            )
            for server in self.site.backends[backend].servers
        ]

    def weight(self, backend: str, server: Server) -> int:
        """The weight of a server: that of the site file, or of a command."""
        return self.overrides.server(backend, server.name).weight or server.weight

    def with_overrides(self, overrides: Overrides) -> "Snapshot":
        """The same snapshot with other overrides."""
        return replace(self, overrides=overrides)

    def follow(self, loaded: Loaded, found: Found) -> "Snapshot":
        """The snapshot of the same site file after a new answer of the name service. Raises CapacityError."""
        return replace(self.next(loaded, found), version=self.version)

    def next(self, loaded: Loaded, found: Found = NOTHING) -> "Snapshot":
        """The snapshot after this one. Raises CapacityError."""
        questions = discovery.questions(loaded.site)
        loaded = discovery.expand(loaded, found)
        kept = {server for server in self.slots if loaded.resolved.get(server) == self.resolved[server]}
        site = loaded.site
        traffic: list[TrafficKey] = [("frontend", frontend.name) for frontend in site.frontends]
        traffic += [("backend", name) for name in site.backends]
        traffic += [("class", item.name) for item in site.qos.classes]
        queues = [name for name in site.backends if site.queue(name) is not None]
        traffic += [("share", f"{item.name} {name}") for item in site.qos.classes if item.share for name in queues]
        return Snapshot(
            version=self.version + 1,
            path=Path(os.path.realpath(loaded.path)),
            digest=loaded.digest,
            site=site,
            files=loaded.files,
            rules=dict(loaded.rules),
            resolved=loaded.resolved,
            server_rows=self.server_rows.next(loaded.resolved, kept),
            traffic_rows=self.traffic_rows.next(traffic, set(traffic)),
            questions=questions,
            found=dict(found),
            overrides=self.overrides,
            maps=loaded.maps,
            database=loaded.database,
            routes_at=loaded.routes_at,
            programs=loaded.programs,
        )
