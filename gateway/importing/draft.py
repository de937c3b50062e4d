"""The site file in the making: what an import has found, as mappings of the site file."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.importing.matches import Match
from gateway.importing.report import Line, Report

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._:-]+")


def name_of(text: str) -> str:
    """A text as a name of a backend, server or frontend."""
    return _NOT_IN_NAMES.sub("-", text).strip("-")[:64] or "unnamed"


@dataclass
class Draft:
    """What is written: the site file, and the files beside it that it names (`files`: name → content)."""

    source: Path
    report: Report = field(default_factory=Report)
    top: dict[str, Any] = field(default_factory=dict)
    frontends: list[dict[str, Any]] = field(default_factory=list)
    backends: dict[str, dict[str, Any]] = field(default_factory=dict)
    maps: dict[str, Any] = field(default_factory=dict)
    pages: dict[int, str] = field(default_factory=dict)
    routes: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    at: Line | None = None
    """The line that routes are made of at the moment."""
    origins: list[Line | None] = field(default_factory=list)
    """That of each route."""
    lines: dict[str, Line] = field(default_factory=dict)
    """Those of frontends, backends and maps, by name."""
    server_lines: dict[int, Line] = field(default_factory=dict)
    """Those of servers, by the identity of what describes one in `backends`."""

    def file(self, name: str) -> str:
        """The path of a file that the configuration names, for a site file in another directory."""
        return str(Path(self.source.parent.absolute(), name))

    def route(self, match: Match, **actions: Any) -> None:
        """Add a route, unless its match can never hold. `class_` is the key class."""
        if match is None:
            return
        if "class_" in actions:
            actions = {"class": actions.pop("class_"), **actions}
        last = self.routes[-1] if self.routes else None
        if last is not None and last.get("match", {}) == match and _joins(last, actions):
            for key, value in actions.items():
                last[key] = {**last[key], **value} if key in last else value
            return
        self.origins.append(self.at)
        self.routes.append({**({"match": match} if match else {}), **actions})

    def add_map(self, name: str, content: str, **keys: Any) -> str:
        """Add a map with its file, and return its name."""
        wanted = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "map"
        described = {"file": f"maps/{wanted}.txt", "format": "text", **keys}
        number = 1
        made = wanted
        while made in self.maps and (self.maps[made] != described or self.files[described["file"]] != content):
            number += 1
            made = f"{wanted}-{number}"
            described["file"] = f"maps/{made}.txt"
        self.maps[made] = described
        if self.at is not None:
            self.lines.setdefault(f"map {made}", self.at)
        self.files[described["file"]] = content
        return made

    def site(self) -> dict[str, Any]:
        """The site file, without its tests."""
        parts = {"frontends": self.frontends, "backends": self.backends, "maps": self.maps, "pages": self.pages}
        return {**self.top, **{key: value for key, value in parts.items() if value}, "routes": self.routes}


_JOINED = frozenset({"set_header", "append_header", "set_response_header", "append_response_header"})
_ENDS = frozenset(
    [
        "backend",
        "split",
        "redirect",
        "respond",
        "body_bytes",
        "rewrite_location",
        "rewrite_cookie",
        "rewrite",
        "timeouts",
        "retries",
    ]
)


def _joins(last: dict[str, Any], actions: dict[str, Any]) -> bool:
    """Whether actions fit into the route before, which only changes headers, and not the same ones."""
    if not (set(actions) <= _JOINED | _ENDS and set(last) - {"match"} <= _JOINED):
        return False
    return all(
        not {name.lower() for name in last.get(key, {})} & {name.lower() for name in actions[key]}
        for key in _JOINED & set(actions)
    )
