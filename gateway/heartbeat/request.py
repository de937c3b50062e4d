"""A request of the heartbeat process to its guardian: to run one of the programs named in the site file.

The heartbeat process reads from the network and is not root, the guardian is: it treats a request as untrusted. A
program's arguments and variables come from a fixed list, so that no variable that a shell, the dynamic linker or an OCF
agent interprets (BASH_ENV, LD_PRELOAD, OCF_FUNCTIONS_DIR) can ever be set.
"""

from collections.abc import Collection
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from gateway.heartbeat.jobs import Run
from gateway.system import plain_json

MAX_REQUEST: Final = 16 * 1024
"""Bytes; the longest valid request takes a quarter of it."""
LONGEST_TIMEOUT: Final = 30 * 86400.0


class BadRequest(Exception):
    """The request is refused; the message gives the reason, and quotes nothing of the request."""


def _plain(value: str) -> str:
    if not value.isprintable():
        raise ValueError("not one line of printable characters")
    return value


_Text = Annotated[str, Field(max_length=1024), AfterValidator(_plain)]
Name = Literal[
    "GATEWAY_EVENT",
    "GATEWAY_NODE",
    "GATEWAY_ADDRESS",
    "GATEWAY_INTERFACE",
    "GATEWAY_VICTIM",
    "GATEWAY_REASON",
    "OCF_RESOURCE_INSTANCE",
]
"""Names of environment variables."""
Action = Literal["start", "stop", "monitor"]
"""Of a resource; hooks have no action."""


class Request(BaseModel):
    """`number` identifies the request in the response. `queue`: requests of one queue run one after the other."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    number: Annotated[int, Field(ge=0, lt=2**63)]
    program: Annotated[str, Field(max_length=4096)]
    arguments: Annotated[tuple[Action, ...], Field(max_length=1)]
    environment: Annotated[dict[Name, _Text], Field(max_length=8)]
    timeout: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT, allow_inf_nan=False)]
    queue: _Text

    @classmethod
    def of(cls, number: int, run: Run) -> Self:
        """Return the request to run a program. Raises ValueError if `parse` would refuse it."""
        return cls.model_validate(
            {
                "number": number,
                "program": run.program,
                "arguments": run.arguments,
                "environment": run.environment,
                "timeout": min(float(run.timeout), LONGEST_TIMEOUT),
                "queue": run.queue,
            }
        )

    @classmethod
    def parse(cls, message: bytes, programs: Collection[str]) -> Self:
        """Return the request in a message, if its program is one of `programs`. Raises BadRequest."""
        try:
            request = cls.model_validate_json(message)
        except ValidationError as error:
            wrong = {str(item) for found in error.errors() for item in found["loc"][:1]} & cls.model_fields.keys()
            raise BadRequest(f"its {', '.join(sorted(wrong)) or 'form'} is not allowed") from None
        if request.program not in programs:
            raise BadRequest("its program is not one of the site file")
        return request

    def encode(self) -> bytes:
        """Return the message."""
        return self.model_dump_json().encode()


def number_of(message: bytes) -> int | None:
    """The number of a refused request, so that its sender does not wait for the result; None if it has none."""
    try:
        number = plain_json.parse(message)["number"]
    except (ValueError, TypeError, KeyError):
        return None
    return number if type(number) is int and 0 <= number < 2**63 else None
