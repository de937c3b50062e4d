"""Spans of what workers record; what else comes is named, not believed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from gateway.tracing import spans
from tests.support.collector import attributes

TRACE: dict[str, Any] = {
    "trace": "0af7651916cd43dd8448eb211c80319c", "span": "b7ad6b7169203331", "parent": "", "begin": 10**18,
    "end": 10**18 + 5, "tries": [["00f067aa0ba902b7", "app1", "[::1]:8080", 10**18 + 1, 10**18 + 4, 404]],
}  # fmt: skip
RECORD: dict[str, Any] = {
    "request_id": "r", "client": "192.0.2.1", "scheme": "https", "method": "GET", "host": "h", "uri": "/a?b=c?d",
    "protocol": "HTTP/2.0", "status": 404, "outcome": "ok", "side": "", "tries": 1, "bytes": 3, "request_bytes": 0,
    "queue_ms": 1.5, "frontend": "web", "backend": "app", "user_agent": "", "class": "",
}  # fmt: skip


def packet(*objects: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def made(trace: dict[str, Any] | None = None, **record: Any) -> list[Any]:
    return spans.spans(spans.Traced({**TRACE, **(trace or {})}, {**RECORD, **record}))


def test_a_request_and_its_try() -> None:
    request, attempt = made()
    said = attributes(request)
    assert (said["url.path"], said["url.query"], said["network.protocol.version"]) == ("/a", "b=c?d", "2")
    assert said["gateway.queue_ms"] == 1.5
    assert "user_agent.original" not in said
    # Not found is no error of the server, but the client of it, which the gateway is, failed (semantic conventions).
    assert (request.status.code, attempt.status.code) == (0, 2)
    said = attributes(attempt)
    assert (said["server.address"], said["server.port"], said["error.type"]) == ("::1", 8080, "404")


@pytest.mark.parametrize("record, failed", [
    ({"status": 500}, "500"), ({"status": 503, "outcome": "queue_full", "side": "gateway"}, "503"),
    ({"status": 200, "outcome": "response_cut", "side": "server"}, "response_cut"),
    ({"status": 499, "outcome": "client_left", "side": "client"}, "client_left"), ({"status": 403}, ""),
])  # fmt: skip
def test_what_counts_as_an_error(record: dict[str, Any], failed: str) -> None:
    request = made(None, **record)[0]
    assert attributes(request).get("error.type", "") == failed
    assert request.status.code == (2 if failed and record.get("side") != "client" else 0)


def test_a_client_cannot_name_spans() -> None:
    request = made(None, method="MAKEUP")[0]
    assert request.name == "_OTHER"
    assert attributes(request)["http.request.method_original"] == "MAKEUP"


def test_requests_and_losses_of_a_packet() -> None:
    found, lost = spans.read(packet({"lost": 3}, TRACE, RECORD, TRACE, RECORD))
    assert lost == 3
    assert [one.record for one in found] == [RECORD, RECORD]


@pytest.mark.parametrize("bad", [b"[1]\n", b"{\n", b"[" * 5000, b'{"lost": -1}\n', b'{"lost": "1"}\n', b'{"a": 1}\n',
                                 packet(TRACE), b"\xff\n"])  # fmt: skip
def test_what_no_worker_writes(bad: bytes) -> None:
    with pytest.raises(spans.Malformed):
        spans.read(bad)


@pytest.mark.parametrize("trace, record", [
    ({"trace": "x"}, {}), ({"begin": -1}, {}), ({"begin": "1"}, {}), ({"begin": 2**64}, {}), ({"tries": [[]]}, {}),
    ({"tries": 5}, {}), ({}, {"uri": 5}), ({}, {"status": "200"}), ({}, {"bytes": 2**64}),
    ({}, {"host": "\ud800"}),
])  # fmt: skip
def test_what_no_span_can_be_made_of(trace: dict[str, Any], record: dict[str, Any]) -> None:
    with pytest.raises(spans.Malformed):
        made(trace, **record)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from([*TRACE, *RECORD, "lost"]), inner), max_leaves=10))  # fmt: skip
def test_nothing_else_is_raised(said: Any) -> None:
    try:
        for one in spans.read(json.dumps(said).encode() + b"\n" + packet(RECORD))[0]:
            spans.spans(one)
    except spans.Malformed:
        pass


def test_what_is_sent_can_be_read() -> None:
    body = spans.request(made(), "shop", "gw1")
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert attributes(resource.resource)["service.name"] == "shop"
    assert attributes(resource.resource)["host.name"] == "gw1"
    assert len(resource.scope_spans[0].spans) == 2


def test_what_a_collector_did_not_take() -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = 2, "full"
    assert spans.rejected(answer.SerializeToString()) == (2, "full")
    assert spans.rejected(b"") == (0, "")
    with pytest.raises(spans.Malformed):
        spans.rejected(b"\xff\xff")
