"""What a check found: a named value, the same in logs and status output."""

import enum
from dataclasses import dataclass


class Outcome(enum.Enum):
    """Every way a check can end."""

    OK = enum.auto()
    TCP_CONNECT_TIMEOUT = enum.auto()
    TCP_CONNECT_REFUSED = enum.auto()
    TCP_CONNECT_FAILED = enum.auto()  # no route, no such socket file, no permission
    HTTP_TIMEOUT = enum.auto()  # connected, but the answer did not come in time
    HTTP_CLOSED = enum.auto()  # connected, but closed or reset before the answer was complete
    HTTP_INVALID = enum.auto()  # what came is not HTTP
    HTTP_STATUS = enum.auto()  # not one of the expected
    HTTP_BODY = enum.auto()  # its first 64 KiB do not contain or match what is expected
    GRPC_TIMEOUT = enum.auto()  # connected, but the answer did not come in time
    GRPC_CLOSED = enum.auto()  # connected, but closed, reset or refused before the answer was complete
    GRPC_INVALID = enum.auto()  # what came is not HTTP/2, or no answer of gRPC's health check
    GRPC_STATUS = enum.auto()  # an error of gRPC's: the service is not known, or there is no health service
    GRPC_NOT_SERVING = enum.auto()  # so it says itself
    AGENT_TIMEOUT = enum.auto()  # connected to its text agent, but its line did not come in time
    AGENT_INVALID = enum.auto()  # what came is no agent's line
    CHECK_FAILED = enum.auto()  # the check itself could not be made


@dataclass(frozen=True, slots=True)
class Result:
    """One check's end: the outcome, how long it took in seconds, and what a person wants to know besides."""

    outcome: Outcome
    seconds: float
    detail: str = ""

    @property
    def good(self) -> bool:
        """Whether the server passed."""
        return self.outcome is Outcome.OK

    def __str__(self) -> str:
        detail = f"{self.detail}, " if self.detail else ""
        return f"{detail}{self.seconds * 1000:.0f} ms"
