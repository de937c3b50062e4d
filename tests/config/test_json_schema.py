import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from gateway.config import explain, schema
from gateway.config.document import Document
from tests.config.conftest import BASE, with_route

SCHEMA = schema()
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
NOTES = {"$schema", "$defs", "title", "description", "default", "examples", "type"}


def is_a(value: object, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def valid(value: Any, rule: dict[str, Any]) -> bool:
    """As much of JSON Schema as the site file's uses; a keyword that has no meaning here is a KeyError."""
    names = rule.get("type", [])
    if names and not any(is_a(value, name) for name in ([names] if isinstance(names, str) else names)):
        return False
    return all(KEYWORDS[name](value, wanted, rule) for name, wanted in rule.items() if name not in NOTES)


def others_valid(value: dict[str, Any], wanted: Any, rule: dict[str, Any]) -> bool:
    others = value.keys() - rule.get("properties", {}).keys()
    return all(wanted is not False and valid(value[key], wanted) for key in others)


KEYWORDS: dict[str, Callable[[Any, Any, dict[str, Any]], bool]] = {
    "$ref": lambda value, wanted, _: valid(value, SCHEMA["$defs"][wanted.removeprefix("#/$defs/")]),
    "additionalProperties": others_valid,
    "anyOf": lambda value, wanted, _: any(valid(value, choice) for choice in wanted),
    "const": lambda value, wanted, _: value == wanted,
    "enum": lambda value, wanted, _: any(value == item and type(value) is type(item) for item in wanted),
    "items": lambda value, wanted, _: all(valid(item, wanted) for item in value),
    "maxItems": lambda value, wanted, _: len(value) <= wanted,
    "maximum": lambda value, wanted, _: value <= wanted,
    "minItems": lambda value, wanted, _: len(value) >= wanted,
    "minimum": lambda value, wanted, _: value >= wanted,
    "pattern": lambda value, wanted, _: re.search(wanted, value) is not None,
    "properties": lambda value, wanted, _: all(valid(value[k], wanted[k]) for k in wanted.keys() & value),
    "propertyNames": lambda value, wanted, _: all(valid(key, wanted) for key in value),
    "required": lambda value, wanted, _: set(wanted) <= value.keys(),
}


def mappings() -> dict[str, dict[str, Any]]:
    """The schemas that list properties."""
    found = {"": SCHEMA}
    for name, rule in SCHEMA["$defs"].items():
        (found[name],) = [form for form in rule.get("anyOf", [rule]) if "properties" in form]
    return found


def test_it_is_json() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_mappings_are_closed_and_keys_described() -> None:
    for rule in mappings().values():
        assert rule["additionalProperties"] is False
        for key, inner in rule["properties"].items():
            described = inner.get("description") or SCHEMA["$defs"][inner["$ref"][8:]].get("description")
            assert len(described) > 8, key


def test_it_has_the_keys_of_the_model() -> None:
    keys = {frozenset(rule["properties"]) for rule in mappings().values()}
    assert keys == {frozenset(names) for names in explain.vocabulary().values()}


def test_defaults_are_valid_values() -> None:
    for rule in mappings().values():
        for key, inner in rule["properties"].items():
            assert "default" not in inner or valid(inner["default"], inner), key


@pytest.mark.parametrize(
    "text",
    [
        BASE,
        f"{BASE}access_log: off\n",
        f"{BASE}access_log: '-'\nworkers: auto\n",
        f"{BASE}access_log: {{path: a.log}}\nworkers: 3\npages: {{502: a}}\n",
        with_route("{redirect: /x}"),
        with_route("{redirect: {to: /x, status: 308}}"),
        with_route("{match: {host: a.com, path: [/a, '= /b']}, respond: {}}"),
    ],
)
def test_valid(text: str) -> None:
    assert valid(Document(text).data, SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "frontends: []",
        f"{BASE}oops: 1\n",
        f"{BASE}drain: 5\n",
        f"{BASE}workers: 65\n",
        f"{BASE}access_log: true\n",
        f"{BASE}pages: {{200: a}}\n",
        f"{BASE}load_reports: ~\n",
        BASE.replace("app", "a b"),
        BASE.replace("servers:", "name: x, servers:"),
        BASE.replace("servers:", "balance: three-choices, servers:"),
        with_route("{redirect: {status: 308}}"),
        with_route("{match: {path: x}, backend: app}"),
    ],
)
def test_invalid(text: str) -> None:
    assert not valid(Document(text).data, SCHEMA)
