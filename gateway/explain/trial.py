"""The tests of a site file, run against it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.config.expectation import Expected, SiteTest
from gateway.config.fields import ValueMatch
from gateway.config.loader import Loaded
from gateway.config.pattern import Pattern
from gateway.explain.asked import Asked
from gateway.explain.sandbox import Sandbox
from gateway.rules.site_token import without


@dataclass(frozen=True, slots=True)
class Difference:
    """One expectation that failed."""

    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a test came out; `place` is its line and column in the file at `path`."""

    index: int
    path: str
    place: tuple[int, int]
    request: str
    differences: tuple[Difference, ...]

    @property
    def summary(self) -> str:
        """The differences on one line."""
        return "; ".join(f"{item.what} is {item.found}, not {item.expected}" for item in self.differences)


def run(loaded: Loaded) -> list[Verdict]:
    """Run all tests. Raises CapacityError or ValueError for a site that a worker could not use."""
    with Sandbox(loaded) as sandbox:
        return [
            Verdict(i, str(place.path), place[1:], test.request, tuple(_differences(sandbox, test)))
            for i, (test, place) in enumerate(zip(loaded.site.tests, loaded.tests_at, strict=True))
        ]


def diff(verdict: Verdict) -> str:
    """A failed test as a diff: expected with -, found with +."""
    line, column = verdict.place
    lines = [f"{verdict.path}:{line}:{column}: tests[{verdict.index}] {verdict.request}"]
    for item in verdict.differences:
        lines += [f"  - {item.what}: {item.expected}", f"  + {item.what}: {item.found}"]
    return "\n".join(lines)


def _differences(sandbox: Sandbox, test: SiteTest) -> Iterator[Difference]:
    try:
        asked = Asked.parse(test.request, test.headers.items(), test.client)
    except ValueError as error:
        yield Difference("request", "one that can be sent", str(error))
        return
    sandbox.assume(test.assume)
    found = sandbox.decide(asked)
    if "refused" in found:
        found = {**found, "status": found["refused"][0], "lines": "", "class": None, "site": None}
    yield from _plain(test.expect, found)
    yield from _headers("request_headers", test.expect.request_headers, _fields(found.get("head", "")))
    yield from _response(test.expect, found)


def _plain(expect: Expected, found: dict[str, Any]) -> Iterator[Difference]:
    """What is compared as text."""
    path, _, query = found["head"].split(" ", 2)[1].partition("?") if "head" in found else ("", "", "")
    no_server = f"none: answered with {found.get('status')}"
    forwarded = "head" in found
    server = found["server"] if found.get("kept") else "chosen by balance" if forwarded else no_server
    facts = {
        "status": str(found["status"]) if not forwarded else f"the server's: backend {found['backend']}",
        "location": _location(found),
        "backend": found.get("backend", no_server),
        "server": server,
        "class": found["class"] or "none",
        "session": found.get("session") or "none",
        "admission": found.get("admitted") or no_server,
        "site": found.get("site") or "none",
        "path": path or no_server,
        "query": query if forwarded else no_server,
    }
    for what, seen in facts.items():
        wanted = getattr(expect, "class_" if what == "class" else what)
        if wanted is not None and str(wanted) != seen:
            yield Difference(what, str(wanted), seen)


def _location(found: dict[str, Any]) -> str:
    """The target of a redirect without its site token, which changes every second."""
    location = _fields(found.get("lines", "")).get("location", ["none"])[0]
    return without(location.encode("latin-1"))[0].decode("latin-1")


def _response(expect: Expected, found: dict[str, Any]) -> Iterator[Difference]:
    edits = found.get("edits")
    if "head" not in found:
        yield from _headers("response_headers", expect.response_headers, _fields(found["lines"]))
        return
    added = _fields(edits["with"]) if edits else {}
    removed = set(edits["without"]) - added.keys() if edits else set()
    for name, wanted in expect.response_headers:
        key = name.lower()
        if any(item.kind == "absent" for item in wanted) and key in removed:
            continue
        if not any(_holds(item, added.get(key, [])) for item in wanted if item.kind != "absent"):
            shown = ", ".join(added[key]) if key in added else "as the server sends it"
            yield Difference(f"response_headers {name}", _wanted(wanted), shown)


def _headers(
    what: str, expected: tuple[tuple[str, tuple[ValueMatch, ...]], ...], fields: dict[str, list[str]]
) -> Iterator[Difference]:
    for name, wanted in expected:
        values = fields.get(name.lower(), [])
        if not any(_holds(item, values) for item in wanted):
            yield Difference(f"{what} {name}", _wanted(wanted), ", ".join(values) if values else "none")


def _holds(wanted: ValueMatch, values: list[str]) -> bool:
    match wanted.kind:
        case "present":
            return bool(values)
        case "absent":
            return not values
        case "is":
            return wanted.text in values
        case "differs":
            return not _holds(ValueMatch("matches", wanted.text), values)
        case _:
            search = Pattern(wanted.text).search
            return any(search(value.encode("latin-1", "replace")) for value in values)


def _wanted(wanted: tuple[ValueMatch, ...]) -> str:
    words = {"present": "there", "absent": "none"}
    signs = {"matches": "~", "differs": "!~"}
    return " or ".join(words.get(item.kind) or (signs.get(item.kind, "") + item.text) for item in wanted)


def _fields(lines: str) -> dict[str, list[str]]:
    """Header lines by lower-case name; a request line before them is ignored."""
    found: dict[str, list[str]] = {}
    for line in re.split(r"\r?\n", lines):
        name, colon, value = line.partition(":")
        if colon and " " not in name:
            found.setdefault(name.lower(), []).append(value.strip())
    return found
