"""Combines matches of routes, as mappings of the site file. None matches no request, {} every one."""

from collections.abc import Iterable
from typing import Any, Final

Match = dict[str, Any] | None

_LISTS: Final = frozenset({"frontend", "host", "method", "path", "source", "class"})
_MAPPINGS: Final = frozenset({"query", "header", "cookie"})
_GROUPS: Final = frozenset({"not", "all"})


def listed(value: object) -> list[Any]:
    """A value, or a list of them, as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def single(values: Iterable[Any]) -> Any:
    """The values without repetition; one alone is no list."""
    found = list(dict.fromkeys(values))
    return found[0] if len(found) == 1 else found


def both(*matches: Match) -> Match:
    """All of the matches hold."""
    made: dict[str, Any] = {}
    rest: list[dict[str, Any]] = []
    for match in matches:
        if match is None:
            return None
        if not _added(made, match):
            rest.append(match)
    if rest:
        made["all"] = [*made.get("all", []), *rest]
    return made


def _added(made: dict[str, Any], match: dict[str, Any]) -> bool:
    """Add a match to another one in place, if it does not speak of the same things."""
    for key, value in match.items():
        if key not in made or key in _GROUPS or value == made[key]:
            continue
        if key not in _MAPPINGS or made[key].keys() & value.keys():
            return False
    for key, value in match.items():
        if key in _GROUPS:
            made[key] = [*listed(made.get(key, [])), *listed(value)]
        elif key in _MAPPINGS:
            made[key] = {**made.get(key, {}), **value}
        else:
            made[key] = value
    return True


def either(matches: Iterable[Match]) -> Match:
    """One of the matches holds."""
    found = [match for match in matches if match is not None]
    if not found:
        return None
    if {} in found:
        return {}
    if len(found) == 1:
        return found[0]
    keys = {key for match in found for key in match}
    if len(keys) == 1 and all(len(match) == 1 for match in found):
        (key,) = keys
        if key in _LISTS:
            return {key: single(item for match in found for item in listed(match[key]))}
        names = {name for match in found if key in _MAPPINGS for name in match[key]}
        if len(names) == 1:
            (name,) = names
            return {key: {name: single(item for match in found for item in listed(match[key][name]))}}
    return {"any": found}


def negated(match: Match) -> Match:
    """The match does not hold."""
    if match is None:
        return {}
    if not match:
        return None
    if set(match) == {"not"}:
        return either(listed(match["not"]))
    if set(match) == {"any"}:
        return {"not": match["any"]}
    if set(match) == {"scheme"}:
        return {"scheme": "http" if match["scheme"] == "https" else "https"}
    return {"not": [match]}
