"""The JSON schema of site files, for editors."""

from typing import Any

from gateway.config.model import Site


def schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12), including shorthand forms."""
    made = _plain(Site.model_json_schema(mode="validation"))
    # A backend's key is its name.
    backend = made["$defs"]["Backend"]
    del backend["properties"]["name"]
    backend["required"].remove("name")
    parts = made["properties"]
    parts["frontends"]["minItems"] = 1
    parts["pages"]["propertyNames"] = {"pattern": "^[45][0-9]{2}$"}
    del parts["access_log"]["type"], parts["access_log"]["items"]
    parts["access_log"] |= {
        "anyOf": [
            {"enum": ["off", False]},
            {"$ref": "#/$defs/AccessLog"},
            {"type": "array", "items": {"$ref": "#/$defs/AccessLog"}, "minItems": 1},
        ],
        "default": "off",
    }
    parts["sandbox"] |= {
        "anyOf": [{"enum": ["on", "off", True, False]}, {"$ref": "#/$defs/Sandbox"}],
        "default": "on",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "Gateway site file",
        "required": ["frontends"],
    }


def _plain(made: Any) -> Any:
    """Remove titles that only repeat a name, and defaults that YAML cannot represent."""
    if isinstance(made, list):
        return [_plain(item) for item in made]
    if not isinstance(made, dict):
        return made
    if "patternProperties" in made:  # lets an editor report which name is wrong
        ((pattern, inner),) = made["patternProperties"].items()
        rest = {key: value for key, value in made.items() if key != "patternProperties"}
        return _plain({**rest, "propertyNames": {"pattern": pattern}, "additionalProperties": inner})
    return {
        key: {name: _plain(item) for name, item in value.items()} if key == "properties" else _plain(value)
        for key, value in made.items()
        if not (key == "title" or (key == "default" and value in (None, [])))
    }
