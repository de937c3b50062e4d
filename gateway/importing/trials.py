"""Tests for a site file that was made: a request for each route, and what the configuration wants with it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final

from gateway.importing.matches import listed

MOST: Final = 200
"""Tests of a file."""
_SIMPLE: Final = (
    (re.compile(r"\(\?i\)|\^|\$"), ""),
    (re.compile(r"\((?:\?<\w+>|\?:)?([\w/-]+)\|[^()]*\)"), r"\1"),
    (re.compile(r"\((?:\?<\w+>|\?:)"), "("),
    (re.compile(r"\[0-9\][+*]?|\\d[+*]?"), "7"),
    (re.compile(r"\[\^?[^\]]+\][+*]?|\\w[+*]?|\.[+*]"), "x"),
    (re.compile(r"\\(?=[./-])"), ""),
    (re.compile(r"[()]"), ""),
)


@dataclass(slots=True)
class _Request:
    """A request in the making."""

    method: str = "GET"
    scheme: str = "http"
    host: str = "www.example.com"
    path: str = "/"
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    client: str = ""
    frontend: str = ""


class _NoRequest(Exception):
    """No request can be made up for a match."""


def trials(site: dict[str, Any]) -> list[dict[str, Any]]:
    """Tests for the routes with an end, in order, for each frontend; a match that is too involved gets none."""
    ports = {one["name"]: _port(one) for one in site["frontends"]}
    found: list[dict[str, Any]] = []
    classes: dict[str, dict[str, Any]] = {}
    for route in site["routes"]:
        if "class" in route:
            classes[route["class"]] = route.get("match", {})
        expect = _expected(route)
        if expect is None:
            continue
        match = route.get("match", {})
        for frontend in listed(match.get("frontend", list(ports))):
            try:
                request = _Request(frontend=frontend)
                if "class" in match:  # that a route before has given
                    _fit(request, classes[match["class"]])
                _fit(request, {key: value for key, value in match.items() if key not in {"class", "frontend"}})
                test = _test(request, expect, ports, site)
            except _NoRequest:
                continue
            if test not in found:
                found.append(test)
    return found[:MOST]


def _expected(route: dict[str, Any]) -> dict[str, Any] | None:
    if "basic_auth" in route:
        return {"status": 401}
    if "backend" in route:
        return {"backend": route["backend"]}
    if "redirect" in route:
        return {"status": route["redirect"].get("status", 302)}
    if "respond" in route:
        return {"status": route["respond"].get("status", 200)}
    return {"status": 444} if "close" in route else None


def _test(request: _Request, expect: dict[str, Any], ports: dict[str, str], site: dict[str, Any]) -> dict[str, Any]:
    named = request.frontend or (site["frontends"][0]["name"] if request.scheme == "http" else "")
    frontend = next((one for one in site["frontends"] if one["name"] == named), None)
    if request.frontend and frontend is not None and "tls" in frontend:
        request.scheme = "https"
    default = "443" if request.scheme == "https" else "80"
    port = ports.get(named, default) or default
    query = "&".join(f"{name}={value}" for name, value in request.query.items())
    url = f"{request.scheme}://{request.host}{'' if port == default else f':{port}'}{request.path}"
    made: dict[str, Any] = {"request": f"{request.method} {url}{f'?{query}' if query else ''}"}
    if request.cookies:
        request.headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in request.cookies.items())
    made |= {"headers": request.headers} if request.headers else {}
    made |= {"client": request.client} if request.client else {}
    return {**made, "expect": expect}


def _port(frontend: dict[str, Any]) -> str:
    ports = [text.rpartition(":")[2] for text in frontend["listen"] if not text.startswith("unix:")]
    return ports[0] if ports else ""


def _fit(request: _Request, match: dict[str, Any]) -> None:
    """Make the request one that the match holds for. Raises _NoRequest."""
    for key, value in match.items():
        first = listed(value)[0]
        match key:
            case "host":
                request.host = first.replace("*", "any")
            case "path":
                request.path = _path(first)
            case "frontend":
                request.frontend = request.frontend or first
            case "method" | "scheme":
                setattr(request, key, first)
            case "source":
                request.client = str(ip_network(first).network_address)
            case "header" | "cookie" | "query":
                _values(request, key, value)
            case "all":
                for each in value:
                    _fit(request, each)
            case "any":
                _fit(request, first)
            case "not":
                pass  # what it is about is seldom there
            case _:
                raise _NoRequest


def _values(request: _Request, key: str, wanted: dict[str, Any]) -> None:
    target = {"header": request.headers, "cookie": request.cookies, "query": request.query}[key]
    for name, value in wanted.items():
        first = listed(value)[0]
        if first is False:
            continue
        text = "1" if first is True else _like(first[1:]) if str(first).startswith("~") else str(first)
        if str(first).startswith("!~"):
            continue
        if name.lower() == "host":
            request.host = text
        else:
            target[name] = text


def _path(wanted: str) -> str:
    if wanted.startswith("="):
        return wanted[1:].strip()
    if wanted.startswith("~"):
        pattern = wanted[1:].strip()
        path = _like(pattern)
        return path if path.startswith("/") else f"/{path}"
    return wanted


def _like(pattern: str) -> str:
    """A text that a plain pattern matches. Raises _NoRequest."""
    text = pattern
    for search, replacement in _SIMPLE:
        text = search.sub(replacement, text)
    text = text.partition("|")[0]
    try:
        if not re.fullmatch(r"[A-Za-z0-9/._-]+", text) or not re.search(pattern.replace("(?<", "(?P<"), f"{text}"):
            raise _NoRequest
    except re.error:
        raise _NoRequest from None
    return text


def kept(tests: list[dict[str, Any]], failed: set[int]) -> Iterator[dict[str, Any]]:
    """The tests but for those of these numbers."""
    return (test for number, test in enumerate(tests) if number not in failed)
