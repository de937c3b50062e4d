"""Formats the decision on a request for a terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from gateway.config.model import Site
from gateway.explain.asked import Asked

MOST_IN_A_ROW: Final = 10
"""Routes that do not match, one after the other, each of which is shown."""


def tree(asked: Asked, found: dict[str, Any], site: Site, remark: str = "") -> str:
    """Every step in order, as an indented tree; `remark` is about all of it."""
    return "\n".join([str(asked), *([f"├─ {remark}"] if remark else []), *_steps(found, site)])


NOT_KEPT: Final = "does not decide: the request names no server, or none that can be used"
"""What affinity does for a request that it does not send back to a server."""


def plain(value: object) -> str:
    """A value of a decision that JSON does not have: bodies are bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _steps(found: dict[str, Any], site: Site) -> Iterator[str]:
    yield f"├─ frontend {found['frontend']} ({found['listen']})"
    if "refused" in found:
        status, why = found["refused"]
        yield f"└─ refused with {status}: {why}"
        return
    yield f"├─ seen as {found['scheme']} from {found['client']}, {found['uri']}"
    frontend = next(frontend for frontend in site.frontends if frontend.name == found["frontend"])
    if not frontend.merge_slashes and "//" in found["uri"].partition("?")[0]:
        yield f"├─ {frontend.name} has merge_slashes: false: rules see repeated slashes as they are"
    yield from reasons(found)
    if found["outcome"] == "respond":
        if found.get("closes"):
            yield f"└─ closed without an answer; {found['status']} in the log"
            return
        yield f"└─ answered here with {found['status']}"
        for line in found["lines"].splitlines():
            yield f"     {line}"
        yield f"     ({len(found['body'])} bytes)"
        return
    yield f"├─ backend {found['backend']}: {site.backends[found['backend']].balance}"
    if found["affinity"] is not None:
        kept = f"keeps the client at {found['server']}" if found["kept"] else NOT_KEPT
        yield f"│  affinity {found['affinity']} {kept}"
    yield from choice(found)
    if found["server"] is None:
        yield "└─ no server is available: queued, or 503"
        return
    proxy = site.backends[found["backend"]].proxy_protocol
    yield f"├─ server {found['server']} gets" + (f", behind a PROXY header ({proxy})," if proxy else "")
    for line in found["head"].splitlines():
        yield f"│    {_without_secret(line)}".rstrip()
    edits = found["edits"]
    yield "└─ its answer " + ("is passed on" if edits is None else "is changed")
    for name in edits["without"] if edits else ():
        yield f"     without {name}"
    for line in edits["with"].splitlines() if edits else ():
        yield f"     with {line}"


def _without_secret(line: str) -> str:
    """A header line as it may be shown: of credentials only the scheme (RFC 9110 section 11.4)."""
    name, _, value = line.partition(":")
    return f"{name}: {value.split()[0]} …" if name.lower() == "authorization" and value.strip() else line


def reasons(found: dict[str, Any]) -> Iterator[str]:
    """What was decided before a server was chosen, and why: what gateway/proxy/reasons.pyx finds."""
    yield from _before_routes(found)
    yield "├─ routes"
    yield from _routes(found["routes"])
    for text in found["maps"]:
        yield f"├─ {text}"
    yield f"├─ its class is {found['class'] or 'none'}"
    yield from _admission(found)


def _admission(found: dict[str, Any]) -> Iterator[str]:
    if not found["admission"]:
        yield "├─ admission: no limit applies"
    for text in found["admission"]:
        yield f"├─ admission: {text}"


def _before_routes(found: dict[str, Any]) -> Iterator[str]:
    if found["sites"]:
        loads = (f"{name} {'unknown' if load is None else f'{load:.2g}'}" for name, load in found["sites"].items())
        yield f"├─ loads of sites: {', '.join(loads)}"
    if found["arrived"] is not None:
        yield f"├─ comes from site {found['arrived']}, so it stays here"
    for item in found["classes"]:
        fits = "fits" if item["why_not"] is None else f"does not fit: {item['why_not']}"
        yield f"├─ class {item['class']} {fits}"


def _routes(routes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Every route that was tried; of many in a row that do not match only how many, and why."""
    for matches, group in groupby(routes, lambda route: route["why_not"] is None):
        items = list(group)
        if matches or len(items) <= MOST_IN_A_ROW:
            for route in items:
                yield from _route(route)
            continue
        reasons = Counter(str(route["why_not"]).split(" ")[0] for route in items)
        why = ", ".join(f"{number:,} by {reason}" for reason, number in reasons.most_common(5))
        first, last = items[0], items[-1]
        yield f"│  {first['at']} routes[{first['route']}] to {last['at']} routes[{last['route']}]"
        yield f"│    {len(items):,} routes do not match: {why}; --json says why each does not"


def _route(route: dict[str, Any]) -> Iterator[str]:
    name = f"│  {route['at']} routes[{route['route']}]"
    if route["why_not"] is not None:
        yield f"{name} does not match: {route['why_not']}"
        return
    yield f"{name} matches: {'; '.join(route['does'])}"
    for note in route["notes"]:
        yield f"│    {note}"
    if route["rewritten"]:
        yield f"│    now {route['uri']}"


def choice(found: dict[str, Any]) -> Iterator[str]:
    """The servers that could be chosen, and which one was."""
    for candidate in found["candidates"]:
        yield f"│  {_candidate(candidate, chosen=candidate['server'] == found['server'])}"


def _candidate(candidate: dict[str, Any], *, chosen: bool) -> str:
    return f"{'→' if chosen else ' '} {candidate['server']}: {', '.join(_facts(candidate))}"


def _facts(candidate: dict[str, Any]) -> Iterator[str]:
    yield candidate["state"]
    yield candidate["admin"]
    if candidate["ejected"] != "no":
        yield {"out": "ejected", "probed": "ejected, and probed"}[candidate["ejected"]]
    if candidate["backup"]:
        yield "backup"
    if candidate["slow_start"] is not None:
        yield f"slow start at {candidate['slow_start']:.0%}"
    yield f"weight {candidate['weight']:.3g}"
    if candidate["load"] is not None:
        yield f"load {candidate['load']:.2g}"
    if candidate["sessions"]:
        yield f"{candidate['sessions']} sessions"
    limit = f" of {candidate['max_connections']}" if candidate["max_connections"] else ""
    yield f"{candidate['in_flight']}{limit} in flight"
    if candidate["expected_ms"] is not None:
        yield f"answers within {candidate['expected_ms']:.3g} ms"
    yield f"score {candidate['score']:.3g}"
