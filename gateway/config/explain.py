"""Converts pydantic's errors to plain words."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.foreign import said_of
from gateway.config.later import is_later
from gateway.config.model import Site
from gateway.config.problem import Fault, Finding, Loc, kind, suggest

_QUOTED: Final = re.compile(r"'([^']*)'")
_KEY: Final = "[key]"
"""What pydantic appends to the location of a mapping's key."""


SUGGESTIONS: Final = 200
"""Unknown keys for which a similar one is looked for: for more, this took most of the time of a load."""


def findings(error: ValidationError, suggestions: int = SUGGESTIONS, at: Loc = ()) -> Iterator[Finding]:
    """The errors of validating a `Site`, or the part of one that is `at` a place, each at its key or value."""
    for details in error.errors(include_url=False):
        # A failed default that depends on another key is a consequence of that key's error.
        if details["type"] != "default_factory_not_called":
            yield _finding(details, at, suggesting=suggestions > 0)
            suggestions -= details["type"] == "extra_forbidden"


def places(error: ValidationError) -> Iterator[Loc]:
    """Where they are."""
    return (finding.loc for finding in findings(error, suggestions=0))


def _finding(details: ErrorDetails, at: Loc, *, suggesting: bool) -> Finding:
    loc: Loc = (*at, *details["loc"])
    context = details.get("ctx", {})
    is_key = bool(loc) and loc[-1] == _KEY
    if is_key:
        loc = loc[:-1]
    fault = context.get("error")
    if isinstance(fault, Fault):
        return Finding((*loc, *fault.at), str(fault), key=is_key or fault.key, offset=fault.offset)
    if fault is not None:
        return Finding(loc, str(fault), key=is_key)
    if details["type"] == "extra_forbidden":
        return Finding(loc, _unknown(loc, suggesting=suggesting), key=True)
    if details["type"] == "missing":
        return Finding(loc[:-1], f"{loc[-1]} is missing")
    return Finding(loc, _message(details["type"], details["input"], context) + _shape(loc, details), key=is_key)


_MAPPINGS: Final = {
    "affinity": "{cookie: SRV}",
    "agent": "{connect: 8081}",
    "assume": "{live: 2000, ticket: queued}",
    "basic_auth": "{file: users, realm: Name}",
    "check": "{http: /healthz}",
    "expect": "{status: 200}",
    "limits": "{body_bytes: 10MiB}",
    "match": "{path: /api/}",
    "not": "{path: /api/}",
    "outlier": "{errors: 5}",
    "queue": "{timeout: 5s}",
    "respond": "{status: 404}",
    "retries": "{attempts: 3}",
    "split": "{canary: 5%, app: 95%}",
    "timeouts": "{response: 30s}",
    "tls": "{certificates: [{cert: site.pem, key: site.key}]}, or {acme: {directory: URL, names: [NAME]}}",
    **dict.fromkeys(("set_header", "append_header", "default_header", "headers"), "{X-Name: text}"),
    **dict.fromkeys(("set_response_header", "append_response_header", "default_response_header"), "{X-Name: text}"),
    "pages": "{404: not-found.html}",
}
"""An example of each mapping that people write as something else."""
_NUMBER_IN: Final = {
    "agent": "connect",
    "expect": "status",
    "outlier": "errors",
    "respond": "status",
    "retries": "attempts",
}
_PATH_IN: Final = {"check": "http", "match": "path", "not": "path"}
"""The key of such a mapping for which a number, or a path, is meant."""


def _shape(loc: Loc, details: ErrorDetails) -> str:
    """What to write for a value of another form than its key has: a mapping, a list, one item."""
    name, value = str(loc[-1]) if loc else "", details["input"]
    if details["type"] in ("model_type", "dict_type"):
        if isinstance(value, list) and name in ("backends", "maps", "zones", "peers"):
            return ": write NAME: {…} for each"
        return _mapping(name, value)
    if details["type"] == "tuple_type":
        if isinstance(value, dict):
            return ": begin each item with -"
        return f": write [{value}]" if isinstance(value, (str, int)) and len(str(value)) <= 40 else ""
    if details["type"] == "string_type" and isinstance(value, dict | list):
        return _one_text(name, value)
    return ""


def _mapping(name: str, value: object) -> str:
    """What to write for a value in the place of a mapping: it with its key, or an example."""
    key = _NUMBER_IN.get(name) if type(value) is int else None
    if isinstance(value, str) and re.fullmatch(r"/[!-~]{0,40}", value):
        key = _PATH_IN.get(name)
    if key is not None:
        return f": write {{{key}: {value}}}"
    if name == "redirect" and type(value) is int:
        return f': write {{to: "https://…", status: {value}}}'
    return f": write {_MAPPINGS[name]}" if name in _MAPPINGS else ""


def _one_text(name: str, value: dict[str, Any] | list[Any]) -> str:
    """What to write for a mapping or a list in the place of a text."""
    if isinstance(value, dict) and len(value) == 1 and list(value.values()) == [None]:
        return "; put text with braces in quotes"
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) and len(value[0]) <= 40:
        return f": write {value[0]}"
    return f": for several, write split: {_MAPPINGS['split']}" if name == "backend" else ""


def _message(error: str, value: object, context: dict[str, Any]) -> str:  # noqa: PLR0911 - one a case
    """The message for pydantic's `error`, for the author of a site file."""
    match error:
        case "model_type" | "dict_type":
            return f"expected a mapping, not {kind(value)}"
        case "tuple_type":
            return f"expected a list, not {kind(value)}"
        case "string_type":
            quote = "; put it in quotes" if isinstance(value, (int, float)) else ""
            return f"expected text, not {kind(value)}{quote}"
        case "bool_type":
            meant = {"no": "false", "off": "false", "yes": "true", "on": "true"}.get(str(value).lower())
            return f"expected true or false, not {kind(value)}" + (f"; write {meant}" if meant else "")
        case "int_type" | "int_parsing":
            return f"expected a whole number, not {kind(value)}{_plainly(value)}"
        case "float_type" | "float_parsing":
            return f"expected a number, not {kind(value)}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "literal_error" if context["expected"] == "True":
            meant = "write true" if str(value).lower() in ("yes", "on") else "leave the key out" * (value is False)
            return f"expected true, not {kind(value)}" + (f"; {meant}" if meant else "")
        case "literal_error":
            # The choices are only available as a sentence: "'a', 'b' or 'c'", numbers without quotes.
            choices = _QUOTED.findall(context["expected"]) or re.findall(
                r"\w+", context["expected"].replace(" or ", " ")
            )
            hint = suggest(value, choices) if isinstance(value, str) else ""
            return f"expected one of {', '.join(choices)}{hint}"
        case _:
            return f"{kind(value)} is not allowed here"


def _plainly(value: object) -> str:
    """For 0404, 10_000 and the like: the number that is meant."""
    number = re.sub(r"[_',]", "", value).lstrip("0") if isinstance(value, str) else ""
    return f"; write {number}" if number.isascii() and number.isdecimal() else ""


def _unknown(loc: Loc, *, suggesting: bool) -> str:
    """The message for a key that no model has."""
    mapping, key = pattern(loc[:-1]), str(loc[-1])
    if "\xa0" in key:
        return "a no-break space before a key; indent with spaces"
    if is_later(mapping, key):
        return f"{key} is not supported yet"
    if (said := said_of(key, mapping.removesuffix(".*").rpartition(".")[2])) is not None:
        return said
    if not suggesting:
        return f"unknown key {key}"
    here = vocabulary().get(mapping, ())
    if (other := _place_of(key, mapping)) is not None:
        return f"unknown key {key}: it belongs {other}{suggest(key, here, 0.85)}"
    return f"unknown key {key}{suggest(key, here)}"


_PLACES: Final = {
    "": "at the top of the file",
    "frontends.*": "in a frontend",
    "backends.*": "in a backend",
    "backends.*.servers.*": "in a server",
    "routes.*": "in a route",
}


def _place_of(key: str, mapping: str) -> str | None:
    """Where a key stands that its author wrote into `mapping`: around or within that, or in the only place it has."""
    found = [at for at, keys in vocabulary().items() if key in keys]
    around = [at for at in found if at == "" or mapping.startswith(f"{at}.")]
    within = [at for at in found if at.startswith(f"{mapping}.") or not mapping]
    near = max(around, key=len, default=None)
    if near is None and (within or len(found) == 1):
        near = min(within or found, key=lambda at: (at.count("."), not at.endswith(".match")))
    return None if near is None else _PLACES.get(near, f"in {near.replace('.*', '').rpartition('.')[2]}")


_NAMED: Final = (
    *(["backends"], ["maps"], ["sites", "peers"], ["dns", "zones"], ["dns", "zones", "*", "names"]),
    *(["dns", "zones", "*", "places"], ["dns", "zones", "*", "names", "*", "places"]),
)
"""Mappings whose keys are names, those around them first."""


def pattern(loc: Loc) -> str:
    """`loc` in the notation of `vocabulary`'s keys: routes.*.match."""
    names = ["*" if isinstance(part, int) else part for part in loc]
    while "match" in names and (after := names[names.index("match") + 1 :]) and after[0] in ("not", "any", "all"):
        at = names.index("match") + 1
        del names[at : at + 1 + (after[1:2] == ["*"])]
    if names[:1] == ["routes"] and names[2:] == ["affinity"]:
        names[0] = "backends"  # the same mapping
    # Their keys are names.
    for mapping in _NAMED:
        if names[: len(mapping)] == mapping and len(names) > len(mapping):
            names[len(mapping)] = "*"
    return ".".join(names)


@cache
def vocabulary() -> dict[str, tuple[str, ...]]:
    """The keys of every mapping with fixed keys in the site file, by pattern; "" is the whole file."""
    found: dict[str, tuple[str, ...]] = {}
    waiting: list[tuple[str, type[BaseModel]]] = [("", Site)]
    while waiting:
        at, model = waiting.pop()
        # A backend's key is its name.
        found[at] = tuple(
            field.alias or name for name, field in model.model_fields.items() if (at, name) != ("backends.*", "name")
        )
        for name, field in model.model_fields.items():
            for inner, repeated in _models(field.annotation, repeated=False):
                if inner is model or (at, name) == ("routes.*", "affinity"):
                    continue  # a match within a match, an affinity of a route: see pattern
                waiting.append((f"{at}.{name}".lstrip(".") + (".*" if repeated else ""), inner))
    return found


def _models(annotation: Any, *, repeated: bool) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models in an annotation, and whether they are in a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, repeated
        return
    for inner in get_args(annotation):
        yield from _models(inner, repeated=repeated or annotation.__class__.__name__ == "GenericAlias")
