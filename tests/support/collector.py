"""A collector of OpenTelemetry over HTTP: keeps the spans that it gets, and answers as it is told."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.closing import Closing


class Collector(Closing):
    """Listens on a loopback address while it is open. `statuses` are those of the next answers, before 200."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.statuses: list[int] = []
        self.rejects = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def of(self, trace: str) -> list[Any]:
        """The spans of a trace, the request's first."""
        found = [span for span in self.spans if span.trace_id.hex() == trace]
        return sorted(found, key=lambda span: (span.kind != span.SPAN_KIND_SERVER, span.start_time_unix_nano))

    def __enter__(self) -> Self:
        return self

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.paths.append(self.path)
                collector.headers.append(dict(self.headers.items()))
                status = collector.statuses.pop(0) if collector.statuses else 200
                answer = ExportTraceServiceResponse()
                if status == 200:
                    collector.take(ExportTraceServiceRequest.FromString(body))
                    if collector.rejects:
                        answer.partial_success.rejected_spans = collector.rejects
                        answer.partial_success.error_message = "full"
                said = answer.SerializeToString()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def take(self, request: Any) -> None:
        """Keep the spans of a request."""
        for resource in request.resource_spans:
            self.resources.append(attributes(resource.resource))
            for scope in resource.scope_spans:
                self.spans += scope.spans


def attributes(holder: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}
