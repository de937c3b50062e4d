"""Writes docs/reference.md, every key of a site file, from the schema: `make reference`. A test compares the two."""

import json
import sys
from pathlib import Path
from typing import Any

from gateway.config import schema

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
HEAD = """\
# Reference of the site file

Every key, by the part of the file that it is in; `make reference` writes this page from the schema that `gateway check`
uses and `gateway schema` prints. [conf/reference.yaml](../conf/reference.yaml) is a file with all of them and comments.

Durations are `250ms`, `2s`, `10m`, `1h`, `1d`; sizes `500B`, `16KiB`, `1MiB`; rates `50/s`, `600/m`. Names of files are
relative to the site file.
"""


def page() -> str:
    """The text of the page."""
    whole = schema()
    models = whole["$defs"]
    order = list(referenced(whole["properties"], models))
    lines = [HEAD, "## Top of the file", "", *table(whole)]
    for name in order:
        model = models[name]
        if "properties" not in longest(model):
            continue
        lines += ["", f"## {name}", "", sentence(longest(model).get("description") or model.get("description", "")), ""]
        lines += [f"Short form: {short}", ""] if (short := short_form(model)) else []
        lines += table(longest(model))
    return "\n".join(lines) + "\n"


def referenced(value: Any, models: dict[str, Any], seen: set[str] | None = None):
    """Yield the names of models in the order in which a reader meets them."""
    seen = set() if seen is None else seen
    if isinstance(value, list):
        for item in value:
            yield from referenced(item, models, seen)
    elif isinstance(value, dict):
        name = str(value.get("$ref", "")).rpartition("/")[2]
        if name and name not in seen:
            seen.add(name)
            yield name
            yield from referenced(models[name], models, seen)
        for key, item in value.items():
            if key != "default":
                yield from referenced(item, models, seen)


def longest(model: dict[str, Any]) -> dict[str, Any]:
    """The form of a model that is a mapping, where there are others."""
    return next((form for form in model.get("anyOf", []) if "properties" in form), model)


def short_form(model: dict[str, Any]) -> str:
    """What may stand in place of the mapping."""
    forms = [form for form in model.get("anyOf", []) if "properties" not in form]
    texts = [f"{kind(form)}{': ' + form['description'] if 'description' in form else ''}" for form in forms]
    return "; ".join(texts)


def table(model: dict[str, Any]):
    """Yield the lines of a table of keys."""
    yield from ("| key | value | default | |", "|---|---|---|---|")
    needed = model.get("required", [])
    for key, value in model["properties"].items():
        default = "required" if key in needed else f"`{json.dumps(value['default'])}`" if "default" in value else ""
        cells = (f"`{key}`", kind(value), default, sentence(value.get("description", "")))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def sentence(text: str) -> str:
    """A description on one line."""
    return " ".join(text.split())


def kind(value: dict[str, Any]) -> str:
    """What a value may be."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if "properties" in longest(schema_of(name)) else kind(schema_of(name))
    for key in ("anyOf", "oneOf", "allOf"):
        if key in value:
            return " or ".join(dict.fromkeys(kind(form) for form in value[key]))
    if "enum" in value:
        # A number and its text may stand for the same, and are listed once.
        shown = (f"`{json.dumps(item) if not isinstance(item, str) else item}`" for item in value["enum"])
        return ", ".join(dict.fromkeys(shown))
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "examples" in value:
        return "such as " + ", ".join(f"`{item}`" for item in value["examples"])
    return of_type(value)


def of_type(value: dict[str, Any]) -> str:
    """The same for a value that has a type alone."""
    low, high = value.get("minimum", value.get("exclusiveMinimum")), value.get("maximum")
    bounds = f" {low} to {high}" if high is not None else f" from {low}" if low is not None else ""
    if value.get("type") == "array":
        return f"list of {kind(value.get('items', {}))}"
    if value.get("type") == "object":
        return f"mapping to {kind(value['additionalProperties'])}" if value.get("additionalProperties") else "mapping"
    names = {"integer": "number", "number": "number", "boolean": "`true`, `false`", "null": "nothing", "string": "text"}
    return names.get(str(value.get("type")), "any") + bounds


_MODELS = schema()["$defs"]


def schema_of(name: str) -> dict[str, Any]:
    """The schema of a model."""
    return _MODELS[name]


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page())
