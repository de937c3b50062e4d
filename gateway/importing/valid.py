"""Leaves out of a draft what no site file may have, such as a pattern that RE2 refuses, and says so."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.config.model import Backend, Frontend, Route
from gateway.importing.draft import Draft
from gateway.importing.report import BadInput


def prune(draft: Draft) -> None:
    """Remove routes that are not valid. Raises BadInput for a frontend or backend that is not, or if there is none."""
    if not draft.frontends:
        raise BadInput(draft.source, 0, "nothing to listen on was found")
    for frontend in draft.frontends:
        if said := _refused(Frontend, frontend, draft):
            _refuse(draft, frontend["name"], said)
    for name, backend in draft.backends.items():
        if said := _refused(Backend, {**backend, "name": name}, draft):
            _refuse(draft, name, said)
    kept = []
    for route, origin in zip(draft.routes, draft.origins, strict=True):
        said = _refused(Route, route, draft)
        if not said:
            kept.append((route, origin))
        elif origin is None:
            raise BadInput(draft.source, 0, said)
        else:
            draft.report.impossible(origin, f"{said}; left out")
    draft.routes = [route for route, _ in kept]
    draft.origins = [origin for _, origin in kept]


def _refuse(draft: Draft, name: str, said: str) -> None:
    line = draft.lines.get(name)
    raise BadInput(line.path if line else draft.source, line.number if line else 0, f"{name}: {said}")


def _refused(model: Any, value: dict[str, Any], draft: Draft) -> str:
    """What is wrong with a part of a site file; nothing if it is valid."""
    try:
        model.model_validate(value, context={"directory": Path(draft.source.parent)})
    except ValidationError as error:
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return ""
