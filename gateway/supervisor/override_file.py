"""The file in the state directory that keeps overrides over restarts, upgrades and reloads."""

import json
from dataclasses import asdict
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.config import Loaded
from gateway.config.overrides import MOST, WEIGHTS, AdminState, Override, Overrides
from gateway.supervisor import state_file

NAME: Final = "overrides"
LIMIT: Final = 2 * 1024 * 1024
"""Bytes."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class _Kept(_Part):
    state: AdminState | None
    weight: Annotated[int, Field(ge=WEIGHTS.start, lt=WEIGHTS.stop)] | None
    overrules: AdminState | None
    since: float


class _File(_Part):
    format: Literal[1]
    overrides: Annotated[dict[Annotated[str, Field(max_length=129)], _Kept], Field(max_length=MOST)]


def keep(loaded: Loaded, overrides: Overrides) -> None:
    """Write the file. Raises OSError."""
    content = {"format": 1, "overrides": {name: asdict(each) for name, each in overrides.of.items()}}
    state_file.write(state_file.place(loaded.site.state, NAME, loaded.path), json.dumps(content, indent=1).encode())


def find(loaded: Loaded) -> Overrides:
    """What was kept. Raises OSError, and ValueError if it cannot be used; the text says what to do."""
    path = state_file.place(loaded.site.state, NAME, loaded.path)
    content = state_file.read(path, LIMIT)
    if content is None:
        return Overrides()
    try:
        kept = _File.model_validate_json(content).overrides
    except ValidationError:
        raise ValueError(f"{path} is damaged, or of another version: set them again") from None
    return Overrides({name: Override(**dict(each)) for name, each in kept.items()})
