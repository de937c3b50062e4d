"""What a route may have of its own in place of its backend's: timeouts, retries, affinity."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from gateway.config.affinity import Affinity
from gateway.config.fields import Given, Method, Model, OneOrMany, PositiveDuration, Whole
from gateway.config.problem import suggest

NO_AFFINITY: Final = Affinity.model_construct()
"""Of a route that has none although its backend has."""


def _retry_cause(value: object) -> str | int:
    if value in ("connect", "reset"):
        return str(value)
    if isinstance(value, (int, str)) and re.fullmatch("5[0-9]{2}", str(value)):
        return int(value)
    hint = suggest(value, ("connect", "reset")) if isinstance(value, str) else ""
    raise ValueError(f"expected connect, reset or a status from 500 to 599{hint}")


RetryCause: TypeAlias = Annotated[
    str | int,
    PlainValidator(_retry_cause),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["connect", "reset"]},
                {"type": "string", "pattern": "^5[0-9]{2}$"},
                {"type": "integer", "minimum": 500, "maximum": 599},
            ]
        }
    ),
]
"""connect, reset, or the status of a response."""


def statuses(causes: Collection[str | int]) -> frozenset[int]:
    """The statuses among causes of a retry."""
    return frozenset(cause for cause in causes if isinstance(cause, int))


@dataclass(frozen=True, slots=True)
class _OrFalse:
    """Marks an affinity in place of which false may stand, for NO_AFFINITY."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate it."""

        def affinity(value: object, rest: Any) -> object:
            return NO_AFFINITY if value is False else rest(value)

        return core_schema.no_info_wrap_validator_function(affinity, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Allow false."""
        return {"anyOf": [{"const": False}, handler(schema)]}


RouteAffinity: TypeAlias = Annotated[Affinity | None, Given(), _OrFalse()]


class RouteTimeouts(Model):
    """Timeouts of servers for the requests of a route; what is left out is as the backend has it."""

    connect: Annotated[PositiveDuration | None, Given()] = Field(None, description="Time to accept a connection.")
    response: Annotated[PositiveDuration | None, Given()] = Field(
        None, description="To send the head of the answer, and between parts of it."
    )
    tunnel: Annotated[PositiveDuration | None, Given()] = Field(
        None, description="How long an upgraded connection may be silent in both directions."
    )


class RouteRetries(Model):
    """Retries of the requests of a route; what is left out is as the backend has it."""

    attempts: Annotated[Annotated[Whole, Field(ge=0, le=5)] | None, Given()] = Field(
        None, description="Retries after the first try; 0: never."
    )
    on: Annotated[tuple[RetryCause, ...] | None, Given(), OneOrMany()] = Field(
        None, description="Causes of a retry: connect, reset, and statuses of answers from 500 to 599."
    )
    methods: Annotated[tuple[Method, ...] | None, Given()] = Field(None, description="Methods that may be repeated.")


def changed(timeouts: RouteTimeouts | None, whole: Any) -> tuple[float, float, float, float]:
    """The timeouts of a backend (connect, response, idle, tunnel) with those of a route."""
    own = timeouts or RouteTimeouts()
    return (
        own.connect or whole.connect,
        own.response or whole.response,
        whole.idle,
        own.tunnel or whole.tunnel,
    )
