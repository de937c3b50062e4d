"""The result of a check: a named value, the same in logs and status output."""

import enum
from dataclasses import dataclass


class Outcome(enum.Enum):
    """Every way a check can end."""

    OK = enum.auto()
    TCP_CONNECT_TIMEOUT = enum.auto()
    TCP_CONNECT_REFUSED = enum.auto()
    TCP_CONNECT_FAILED = enum.auto()  # no route, no such socket file, no permission
    TLS_FAILED = enum.auto()  # the handshake failed for another reason than the following ones
    TLS_EXPIRED = enum.auto()  # the certificate has expired, or is not valid yet
    TLS_UNKNOWN_CA = enum.auto()  # no trusted CA has signed the certificate
    TLS_NAME_MISMATCH = enum.auto()  # the certificate is for another name
    TLS_NOT_SPOKEN = enum.auto()  # the response is not TLS
    HTTP_TIMEOUT = enum.auto()  # connected, but the response was not complete in time
    HTTP_CLOSED = enum.auto()  # connected, but closed or reset before the response was complete
    HTTP_INVALID = enum.auto()  # the response is not HTTP
    HTTP_STATUS = enum.auto()  # not an expected status
    HTTP_BODY = enum.auto()  # the first 64 KiB do not contain or match the expected text
    GRPC_TIMEOUT = enum.auto()  # connected, but the response was not complete in time
    GRPC_CLOSED = enum.auto()  # connected, but closed, reset or refused before the response was complete
    GRPC_INVALID = enum.auto()  # the response is not HTTP/2, or not gRPC's health check
    GRPC_STATUS = enum.auto()  # a gRPC error: the service is unknown, or there is no health service
    GRPC_NOT_SERVING = enum.auto()  # the server's own state
    AGENT_TIMEOUT = enum.auto()  # connected to the text agent, but no line arrived in time
    AGENT_INVALID = enum.auto()  # the line is not valid
    CHECK_FAILED = enum.auto()  # the check itself failed


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a check: the outcome, its duration in seconds, and details for people."""

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
