"""Writes a site file that was made of another configuration."""

from pathlib import Path
from typing import Any, Final

import yaml

from gateway.importing.draft import Draft

_HEAD: Final = """\
# Made by `gateway import` from {source}. Read the report that it printed: it says what was approximated
# or left out. `gateway check FILE` and `gateway test FILE` hold this file to what it says.
"""


class _Writer(yaml.SafeDumper):
    """Writes each value out, also where two are the same."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the name is PyYAML's
        """Anchors would puzzle readers."""
        return True


def site_text(draft: Draft, tests: list[dict[str, Any]]) -> str:
    """The text of the site file."""
    head = _HEAD.format(source=draft.source.name)
    parts = [(key, value) for key, value in draft.site().items()]
    parts += [("tests", tests)] if tests else []
    return "\n".join([head, *(_part(key, value) for key, value in parts)])


def _part(key: str, value: object) -> str:
    flow = None if isinstance(value, dict | list) else False
    text = yaml.dump(
        {key: _escaped(value)}, Dumper=_Writer, sort_keys=False, default_flow_style=flow, width=118, allow_unicode=True
    )
    return str(text)


def _escaped(value: Any) -> Any:
    """The value with "${", which stands for a variable in a site file, as itself."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def write(draft: Draft, text: str, site: Path) -> None:
    """Write the site file and the files that it names beside it. Raises OSError; nothing is overwritten."""
    site.parent.mkdir(parents=True, exist_ok=True)
    with site.open("x", encoding="utf-8") as file:
        file.write(text)
    for name, content in draft.files.items():
        path = site.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            path.chmod(0o640)
            file.write(content)
