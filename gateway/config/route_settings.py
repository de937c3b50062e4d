"""What a route may have of its own in place of its backend's: timeouts and retries, or no affinity."""

from typing import Annotated, Any

from pydantic import Field

from gateway.config.fields import Given, Method, Model, PositiveDuration, Whole
from gateway.config.problem import kind


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
    methods: Annotated[tuple[Method, ...] | None, Given()] = Field(None, description="Methods that may be repeated.")


def no_affinity(value: object) -> object:
    """Check that a route is without affinity. Raises ValueError."""
    if value is not False:
        raise ValueError(f"expected false, not {kind(value)}: the kind of affinity is the backend's")
    return value


def changed(timeouts: RouteTimeouts | None, whole: Any) -> tuple[float, float, float, float]:
    """The timeouts of a backend (connect, response, idle, tunnel) with those of a route."""
    own = timeouts or RouteTimeouts()
    return (
        own.connect or whole.connect,
        own.response or whole.response,
        whole.idle,
        own.tunnel or whole.tunnel,
    )
