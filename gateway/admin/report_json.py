"""Reads reports that came as JSON: from another process, or from a gateway to its commands."""

from typing import Final, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from gateway.reports import (
    AcmeReport,
    DnsReport,
    GatewayReport,
    HeartbeatReport,
    MapProgramReport,
    TracingReport,
    TreeReport,
)
from loadagent.printable import printable

T = TypeVar("T")

# Made at the import: a confined process could not load what this needs.
_GATEWAY: Final = TypeAdapter(GatewayReport)
_HEARTBEAT: Final = TypeAdapter(HeartbeatReport)
_TREE: Final = TypeAdapter(TreeReport)
_DNS: Final = TypeAdapter(DnsReport)
_ACME: Final = TypeAdapter(AcmeReport)
_TRACING: Final = TypeAdapter(TracingReport)
_MAP_PROGRAMS: Final = TypeAdapter(dict[Literal["programs"], tuple[MapProgramReport, ...]])


class Unreadable(Exception):
    """The data is not a report of this version; the text says where it differs."""


def gateway(answer: object) -> GatewayReport:
    """Return the report in control's answer. Raises Unreadable."""
    return _read(_GATEWAY, answer)


def heartbeat(answer: object) -> HeartbeatReport:
    """Return the report in the answer of the heartbeat process, or in its bulletin. Raises Unreadable."""
    return _read(_HEARTBEAT, answer)


def tree(said: object) -> TreeReport:
    """Return the report in the supervisor's bulletin. Raises Unreadable."""
    return _read(_TREE, said)


def dns(said: object) -> DnsReport:
    """Return the report in the bulletin of the name server. Raises Unreadable."""
    return _read(_DNS, said)


def acme(said: object) -> AcmeReport:
    """Return the report in the bulletin of the acme process. Raises Unreadable."""
    return _read(_ACME, said)


def tracing(said: object) -> TracingReport:
    """Return the report in the bulletin of the tracing process. Raises Unreadable."""
    return _read(_TRACING, said)


def map_programs(said: object) -> tuple[MapProgramReport, ...]:
    """Return the report in the bulletin of the process of programs. Raises Unreadable."""
    return _read(_MAP_PROGRAMS, said).get("programs", ())


def _read(adapter: TypeAdapter[T], said: object) -> T:
    try:
        return adapter.validate_python(said)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"])
        raise Unreadable(f"it differs from the reports of this version: {printable(place) or 'no object'}") from None
