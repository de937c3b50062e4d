"""Leaves out of a draft what no site file may have, such as a pattern that RE2 refuses, and says so."""

from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from gateway.config.model import Backend, Frontend, Route
from gateway.importing.draft import Draft
from gateway.importing.matches import listed, single
from gateway.importing.report import BadInput, Line

_SPARED: Final = frozenset(
    {
        "affinity",
        "agent",
        "balance",
        "check",
        "http2",
        "limits",
        "outlier",
        "queue",
        "retries",
        "slow_start",
        "socket_mode",
        "timeouts",
    }
)
"""What a frontend or a backend can do without, and still be what it is for; TLS is not of them."""


def prune(draft: Draft) -> None:
    """Remove what is not valid, and maps that nothing uses. Raises BadInput if there is nothing to listen on."""
    draft.frontends = [frontend for frontend in draft.frontends if _mended(Frontend, frontend, frontend["name"], draft)]
    if not draft.frontends:
        raise BadInput(draft.source, 0, "; ".join(["nothing to listen on was found", *_without_listener(draft)]))
    for name, backend in list(draft.backends.items()):
        if not _mended(Backend, backend, name, draft):
            del draft.backends[name]
    kept = []
    for route, origin in zip(draft.routes, draft.origins, strict=True):
        changed = _with_frontends(route, draft)
        if changed is None:
            continue
        changed = _with_backends(changed, origin, draft)
        said, _ = _refused(Route, changed, draft)
        if not said:
            kept.append((changed, origin))
        elif origin is None:
            raise BadInput(draft.source, 0, said)
        else:
            draft.report.impossible(origin, f"{said}; left out")
    draft.routes = [route for route, _ in kept]
    draft.origins = [origin for _, origin in kept]
    _remove_unused_maps(draft)


def _mended(model: Any, part: dict[str, Any], name: str, draft: Draft) -> bool:
    """Remove from a frontend or backend what is not valid; False: nothing is left of it."""
    line = draft.lines.get(name)
    while True:
        said, where = _refused(model, {**part, "name": name}, draft)
        if not said:
            return True
        match where:
            case ("servers", int(at), *_) if len(part.get("servers", ())) > 1:
                server = part["servers"].pop(at)
                _say(draft, draft.server_lines.get(id(server), line), f"{said}; left out")
            case ("listen", int(at), *_) if len(part["listen"]) > 1:
                _say(draft, line, f"{name}: {part['listen'].pop(at)}: {said}; left out")
            case (str(key), *_) if key in part and key in _SPARED:
                del part[key]
                _say(draft, line, f"{name}: {key}: {said}; left out")
            case ("servers", 0, *_) if part.get("servers"):
                at_server = draft.server_lines.get(id(part["servers"][0]), line)
                _say(draft, at_server, f"{said}; left out, and with it {name}, whose requests get 503")
                return False
            case _:
                _say(draft, line, f"{name}: {said}; left out")
                return False


def _without_listener(draft: Draft) -> list[str]:
    """What is known of why nothing listens: the first line that was to do so, and what is wrong with it."""
    words = ("bind ", "listen ", "frontend ")
    lost = ((line, entry) for line, entry in draft.report.entries.items() if entry.fate == "not possible")
    return [f"{line}: {entry.notes[0]}" for line, entry in lost if line.text.startswith(words) and entry.notes][:1]


def _say(draft: Draft, line: Line | None, why: str) -> None:
    draft.report.impossible(line or Line(draft.source, 0, draft.source.name), why)


def _with_frontends(route: dict[str, Any], draft: Draft) -> dict[str, Any] | None:
    """The route for those of its frontends that are there; None: there is none of them."""
    wanted = route.get("match", {}).get("frontend")
    if wanted is None:
        return route
    names = {frontend["name"] for frontend in draft.frontends}
    left = [name for name in listed(wanted) if name in names]
    return {**route, "match": {**route["match"], "frontend": single(left)}} if left else None


def _with_backends(route: dict[str, Any], origin: Line | None, draft: Draft) -> dict[str, Any]:
    """The route, which answers 503 if a backend that it names has been left out."""
    named = list(route["split"]["to"]) if "split" in route else [route["backend"]] if "backend" in route else []
    lost = [name for name in named if name not in draft.backends]
    if not lost:
        return route
    if origin is not None:
        draft.report.impossible(origin, f"the backend {lost[0]} was left out; its requests get 503")
    return {**({"match": route["match"]} if "match" in route else {}), "respond": {"status": 503}}


def _remove_unused_maps(draft: Draft) -> None:
    used = repr([draft.routes, draft.backends])
    for name in [name for name in draft.maps if f"map:{name}:" not in used and f'map("{name}"' not in used]:
        del draft.files[draft.maps.pop(name)["file"]]
        if (line := draft.lines.get(f"map {name}")) is not None:
            draft.report.needless(line, f"nothing uses the map {name}, so it is not written")


def _refused(model: Any, value: dict[str, Any], draft: Draft) -> tuple[str, tuple[int | str, ...]]:
    """What is wrong with a part of a site file, and where; nothing if it is valid."""
    try:
        model.model_validate(value, context={"directory": Path(draft.source.parent)})
    except ValidationError as error:
        first = error.errors()[0]
        return str(first["msg"]).removeprefix("Value error, "), first["loc"]
    return "", ()
