"""Traces: what servers and the collector get of a request, and what happens when the collector takes nothing."""

import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.backend_server import BackendServer
from tests.support.collector import Collector, attributes
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as started:
        yield started


def traced(servers: list[BackendServer], collector: Collector, sample: str = "100%", **more: Any) -> dict[str, Any]:
    description = site(servers)
    description["tracing"] = {"otlp": collector.url, "sample": sample, **more}
    return description


def context_of(echo: bytes) -> tuple[str, str, str]:
    """The trace, the parent and the flags that a server has got."""
    (found,) = re.findall(rb"(?im)^traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\r$", echo)
    trace, parent, flags = (part.decode() for part in found)
    return trace, parent, flags


def spans(collector: Collector, trace: str, count: int) -> list[Any]:
    eventually(lambda: len(collector.of(trace)) >= count, f"{count} spans of {trace}")
    return collector.of(trace)


def tracing(gateway: GatewayProcess) -> dict[str, Any]:
    """What `gateway status` says of it, as soon as the process has said something."""
    found: list[dict[str, Any]] = []

    def said() -> bool:
        found[:] = [gateway.status()["tracing"]]
        return found[0] is not None

    eventually(said, "the tracing process to work")
    return found[0]


def lost(gateway: GatewayProcess) -> dict[str, int]:
    return dict(tracing(gateway)["lost"])


def test_a_request_begins_a_trace(lend_gateway: Starter, start_servers: Servers, collector: Collector) -> None:
    servers = start_servers("app1")
    gateway = lend_gateway(traced(servers, collector, service="shop", headers={"Authorization": "Bearer abc"}))
    with RawClient(gateway.port) as client:
        response = client.get(
            "/echo?a=1", "User-Agent: x/1", "traceparent: no", "tracestate: a=b", host="www.example.com"
        )
    trace, parent, flags = context_of(response.body)
    assert (trace, flags) == (response.header("X-Request-ID"), "01")
    assert b"tracestate" not in response.body, "it belongs to no trace"
    request, attempt = spans(collector, trace, 2)
    assert attempt.span_id.hex() == parent
    assert attempt.parent_span_id == request.span_id
    assert request.parent_span_id == b""
    assert (request.kind, attempt.kind) == (request.SPAN_KIND_SERVER, request.SPAN_KIND_CLIENT)
    assert (request.name, request.status.code, attempt.status.code) == ("GET", 0, 0)
    assert 0 < attempt.end_time_unix_nano - attempt.start_time_unix_nano < 10**10
    assert request.start_time_unix_nano <= attempt.start_time_unix_nano <= request.end_time_unix_nano
    said = attributes(request)
    expected = {
        "http.request.method": "GET", "url.path": "/echo", "url.query": "a=1", "url.scheme": "http",
        "server.address": "www.example.com", "client.address": "127.0.0.1", "user_agent.original": "x/1",
        "http.response.status_code": 200, "network.protocol.version": "1.1", "gateway.outcome": "ok",
        "gateway.backend": "app", "gateway.request_id": trace, "gateway.tries": 1,
    }  # fmt: skip
    assert {key: said.get(key) for key in expected} == expected
    assert "error.type" not in said
    host, _, port = servers[0].address.rpartition(":")
    said = attributes(attempt)
    assert (said["server.address"], said["server.port"], said["gateway.server"]) == (host, int(port), "app1")
    assert collector.resources[0]["service.name"] == "shop"
    assert collector.headers[0]["Authorization"] == "Bearer abc"
    assert collector.paths[0] == "/v1/traces"


def test_a_trace_goes_on(lend_gateway: Starter, start_servers: Servers, collector: Collector) -> None:
    """Of a trusted peer its sampling counts, of others the trace alone."""
    description = traced(start_servers("app1"), collector)
    behind = free_port()
    description["frontends"].append(
        {"name": "behind", "listen": f"127.0.0.1:{behind}", "trusted_proxies": ["127.0.0.1"]}
    )
    gateway = lend_gateway(description)
    for port, came, sampled in ((gateway.port, "00", True), (behind, "00", False), (behind, "01", True)):
        trace = os.urandom(16).hex()
        with RawClient(port) as client:
            echo = client.get("/echo", f"traceparent: 00-{trace}-{PARENT}-{came}", "tracestate: a=b").body
        assert context_of(echo)[0] == trace
        assert b"tracestate: a=b" in echo
        assert context_of(echo)[1] != PARENT
        assert context_of(echo)[2] == ("01" if sampled else "00")
        if sampled:
            assert spans(collector, trace, 2)[0].parent_span_id.hex() == PARENT
    assert len({span.trace_id for span in collector.spans}) == 2


def test_every_try_is_a_span(lend_gateway: Starter, start_servers: Servers, collector: Collector) -> None:
    """The server that answers has the span of its own try as its parent."""
    (server,) = start_servers("app1")
    description = traced([server], collector)
    description["backends"]["app"]["servers"] = [
        {"name": "dead", "address": f"127.0.0.1:{free_port()}"},
        {"name": "app1", "address": server.address, "backup": True},
    ]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        trace, parent, _ = context_of(client.get("/echo").body)
    request, first, second = spans(collector, trace, 3)
    assert attributes(first)["error.type"] == "connect_refused"
    assert first.status.code == 2
    assert second.span_id.hex() == parent != first.span_id.hex()
    assert attributes(second)["http.request.resend_count"] == 1
    assert (attributes(request)["gateway.outcome"], request.status.code) == ("retried", 0)


def test_answers_of_the_gateway_are_spans_too(
    lend_gateway: Starter, start_servers: Servers, collector: Collector
) -> None:
    description = traced(start_servers("app1"), collector)
    description["backends"]["dead"] = {"servers": [f"127.0.0.1:{free_port()}"]}
    description["routes"] = [
        {"match": {"path": "/here"}, "respond": {"status": 204}},
        {"match": {"path": "/dead"}, "backend": "dead"},
        {"backend": "app"},
    ]
    gateway = lend_gateway(description)
    with RawClient(gateway.port) as client:
        here, dead = client.get("/here"), client.get("/dead")
    (request,) = spans(collector, str(here.header("X-Request-ID")), 1)
    assert attributes(request)["http.response.status_code"] == 204
    request, attempt = spans(collector, str(dead.header("X-Request-ID")), 2)
    assert attributes(request)["error.type"] == "502"
    assert request.status.code == attempt.status.code == 2


def test_a_share_is_sampled(lend_gateway: Starter, start_servers: Servers, collector: Collector) -> None:
    gateway = lend_gateway(traced(start_servers("app1"), collector, "25%"))
    with RawClient(gateway.port) as client:
        flags = [context_of(client.get("/echo").body)[2] for _ in range(400)]
    assert 50 < flags.count("01") < 150
    eventually(lambda: len(collector.spans) == 2 * flags.count("01"), "all spans that were sampled, and no others")


def test_tracing_comes_and_goes_with_a_reload(
    lend_gateway: Starter, start_servers: Servers, collector: Collector
) -> None:
    servers = start_servers("app1")
    gateway = lend_gateway(site(servers))
    with RawClient(gateway.port) as client:
        came = f"traceparent: 00-{TRACE}-{PARENT}-01"
        assert context_of(client.get("/echo", came).body) == (TRACE, PARENT, "01"), "without tracing it passes as it is"
        gateway.write(traced(servers, collector))
        gateway.reload()
        trace = context_of(client.get("/echo").body)[0]
        spans(collector, trace, 2)
        gateway.write(site(servers))
        gateway.reload()
        assert b"traceparent" not in client.get("/echo").body
        eventually(lambda: "tracing" not in gateway.status()["tree"]["processes"], "the process to end")


def test_a_collector_that_fails_loses_nothing(
    start_gateway: Starter, start_servers: Servers, collector: Collector
) -> None:
    collector.statuses = [503]
    gateway = start_gateway(traced(start_servers("app1"), collector))
    with RawClient(gateway.port) as client:
        trace = context_of(client.get("/echo").body)[0]
        eventually(lambda: "status 503" in tracing(gateway)["failing"], "the failure to be told")
        spans(collector, trace, 2)
        eventually(lambda: tracing(gateway)["failing"] == "", "its end to be told")
        assert tracing(gateway)["exported"] == 1
        assert sum(lost(gateway).values()) == 0
        collector.statuses = [400]
        client.get("/echo")
        eventually(lambda: lost(gateway)["refused"] == 1, "the refusal to be counted")
    assert "takes no spans: status 503" in gateway.log
    assert "refuses spans, which are lost: status 400" in gateway.log


def test_what_cannot_be_taken_is_counted(start_gateway: Starter, start_servers: Servers, collector: Collector) -> None:
    """A tracing process that is stopped holds up no request; when it goes on, it hears how many are lost."""
    gateway = start_gateway(traced(start_servers("app1"), collector))
    tracing(gateway)
    pid = gateway.status()["tree"]["processes"]["tracing"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with RawClient(gateway.port) as client:
            for _ in range(1000):
                assert client.get("/bytes/1", f"User-Agent: {'x' * 3000}").status == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: lost(gateway)["worker"] > 0, "the losses to be counted")
    eventually(lambda: tracing(gateway)["exported"] + lost(gateway)["worker"] == 1000, "each to be there, or counted")


def test_it_is_replaced_when_it_dies(start_gateway: Starter, start_servers: Servers, collector: Collector) -> None:
    gateway = start_gateway(traced(start_servers("app1"), collector))
    with RawClient(gateway.port) as client:
        spans(collector, context_of(client.get("/echo").body)[0], 2)
        eventually(lambda: tracing(gateway)["exported"] == 1, "the count")
        gateway.kill(gateway.status()["tree"]["processes"]["tracing"])
        spans(collector, context_of(client.get("/echo").body)[0], 2)
        eventually(lambda: tracing(gateway)["exported"] == 2, "the count to go on")


def test_the_last_requests_are_told_of(start_gateway: Starter, start_servers: Servers, collector: Collector) -> None:
    gateway = start_gateway(traced(start_servers("app1"), collector))
    with RawClient(gateway.port) as client:
        tracing(gateway)
        trace = context_of(client.get("/echo").body)[0]
    gateway.stop()
    assert len(collector.of(trace)) == 2


def test_a_collector_that_hangs_holds_up_no_end(start_gateway: Starter, start_servers: Servers) -> None:
    """Nothing answers there: what waits is lost, and the log says so."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as silent:
        description = site(start_servers("app1"))
        description["tracing"] = {"otlp": f"http://127.0.0.1:{silent.getsockname()[1]}", "sample": "100%"}
        gateway = start_gateway(description)
        tracing(gateway)
        with RawClient(gateway.port) as client:
            assert client.get("/echo").status == 200
        gateway.stop()
    assert "the spans of 1 traced requests are lost" in gateway.log
    assert "did not end in time" not in gateway.log
