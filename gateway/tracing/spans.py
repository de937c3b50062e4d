"""Spans of OpenTelemetry, made of what a worker has recorded of a request. Pure.

A request is a span of kind SERVER, and each try at a server a span of kind CLIENT below it. The attributes are those of
OpenTelemetry's semantic conventions for HTTP (1.23 and later), and gateway.* for what these have no word for.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from gateway import __version__
from gateway.system import plain_json

SAMPLED: Final = 1
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
"""Others are _OTHER: clients could otherwise make any number of names."""


class Malformed(Exception):
    """What came is not what workers write."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A sampled request: `trace` says its place in a trace and its tries, `record` is its line of the access log."""

    trace: Mapping[str, Any]
    record: Mapping[str, Any]


def read(packet: bytes) -> tuple[list[Traced], int]:
    """Read what a worker has sent: requests, and how many it could not send. Raises Malformed."""
    found, lost = [], 0
    lines = iter(packet.splitlines())
    for line in lines:
        said = _object(line)
        if "lost" in said:
            lost += _whole(said["lost"])
        elif "trace" in said:
            found.append(Traced(said, _object(next(lines, b""))))
        else:
            raise Malformed("a line that is no trace")
    return found, lost


def spans(traced: Traced) -> list[Span]:
    """Return the spans of a request. Raises Malformed."""
    try:
        return list(_spans(traced.trace, traced.record))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise Malformed(f"{type(error).__name__}: {error}") from None


def request(found: Iterable[Span], service: str, node: str) -> bytes:
    """Return the body of a request to a collector."""
    resource = Resource(
        attributes=_attributes(
            {"service.name": service, "service.version": __version__, "service.instance.id": node, "host.name": node}
        )
    )
    scope = ScopeSpans(scope=InstrumentationScope(name="gateway", version=__version__), spans=found)
    body: bytes = ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[scope])]
    ).SerializeToString()
    return body


def rejected(body: bytes) -> tuple[int, str]:
    """Return how many spans a collector has not taken of those it got, and why. Raises Malformed."""
    try:
        answer = ExportTraceServiceResponse.FromString(body)
    except Exception as error:  # noqa: BLE001 - protobuf has several kinds
        raise Malformed(str(error)) from None
    return answer.partial_success.rejected_spans, answer.partial_success.error_message


def _spans(trace: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[Span]:
    trace_id, own = bytes.fromhex(trace["trace"]), bytes.fromhex(trace["span"])
    method, status = record["method"], record["status"]
    path, _, query = record["uri"].partition("?")
    kind = method if method in _METHODS else "_OTHER"
    common = {"http.request.method": kind, "http.request.method_original": method if kind == "_OTHER" else ""}
    yield Span(
        trace_id=trace_id,
        span_id=own,
        parent_span_id=bytes.fromhex(trace["parent"]),
        flags=SAMPLED,
        name=kind,
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=trace["begin"],
        end_time_unix_nano=trace["end"],
        attributes=_attributes(
            {
                **common,
                "url.path": path,
                "url.query": query,
                "url.scheme": record["scheme"],
                "server.address": record["host"],
                "network.protocol.version": record["protocol"].removeprefix("HTTP/").removesuffix(".0")
                if record["protocol"] == "HTTP/2.0"
                else record["protocol"].removeprefix("HTTP/"),
                "client.address": record["client"],
                "user_agent.original": record["user_agent"],
                "http.response.status_code": status or "",
                "http.request.body.size": record["request_bytes"],
                "http.response.body.size": record["bytes"],
                "error.type": str(status) if status >= 500 else record["outcome"] if record["side"] else "",
                "gateway.request_id": record["request_id"],
                "gateway.outcome": record["outcome"],
                "gateway.frontend": record["frontend"],
                "gateway.backend": record["backend"],
                "gateway.class": record["class"],
                "gateway.queue_ms": record["queue_ms"],
                "gateway.tries": record["tries"],
            }
        ),
        # What a client did wrong is no error of the one that it asked.
        status=_status(record["outcome"], failed=status >= 500 or record["side"] in {"gateway", "server"}),
    )
    for number, (span, server, address, begin, end, result) in enumerate(trace["tries"]):
        host, _, port = address.rpartition(":")
        got = isinstance(result, int)
        failed = not got or result >= 400
        yield Span(
            trace_id=trace_id,
            span_id=bytes.fromhex(span),
            parent_span_id=own,
            flags=SAMPLED,
            name=kind,
            kind=Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=begin,
            end_time_unix_nano=end,
            attributes=_attributes(
                {
                    **common,
                    "server.address": address if address.startswith("unix:") else host.strip("[]"),
                    "server.port": int(port) if port.isdigit() else "",
                    "http.response.status_code": result if got else "",
                    "http.request.resend_count": number or "",
                    "error.type": str(result) if failed else "",
                    "gateway.backend": record["backend"],
                    "gateway.server": server,
                }
            ),
            status=_status(str(result), failed=failed),
        )


def _status(why: str, *, failed: bool) -> Status:
    return Status(code=Status.STATUS_CODE_ERROR, message=why) if failed else Status()


def _attributes(values: Mapping[str, str | int | float]) -> list[KeyValue]:
    """Those that are not empty."""
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items() if value != ""]


def _value(value: float | str) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)


def _object(line: bytes) -> dict[str, Any]:
    try:
        said = plain_json.parse(line)
    except ValueError:
        raise Malformed("a line that is not JSON") from None
    if not isinstance(said, dict):
        raise Malformed("a line that is no object")
    return said


def _whole(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**53:
        raise Malformed("a number of lost requests that is none")
    return value
