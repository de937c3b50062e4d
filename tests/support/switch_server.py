"""A server that runs in the test itself: its responses can be changed at any moment."""

import threading
import time
from collections import Counter, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class SwitchServer:
    """Answers `/check` with `status` and `body`, everything else as `work` says with its name; counts by path.

    The next checks get the statuses `once`, one each, before `status` counts again.
    `work` is (seconds until the answer, status, more header fields); `heads` are the heads of the last requests
    but checks, which come whenever they like.

    A context manager. It goes on to accept connections whatever it answers.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = 200
        self.once: list[int] = []
        self.body = "fine"
        self.work: tuple[float, int, tuple[tuple[str, str], ...]] = (0.0, 200, ())
        self.counts: Counter[str] = Counter()
        self.heads: deque[str] = deque(maxlen=1000)
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.counts[self.path] += 1
                checked = self.path == "/check"
                if not checked:
                    server.heads.append(f"{self.requestline}\n{self.headers}")
                delay, status, fields = server.work
                if checked:
                    delay, status, fields = 0.0, server.once.pop(0) if server.once else server.status, ()
                if delay:
                    time.sleep(delay)
                body = (server.body if checked else server.name).encode()
                if status in {204, 304}:
                    body = b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Server", server.name)
                for field, value in fields:
                    self.send_header(field, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def address(self) -> str:
        """As a site file wants it."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that breaks off is part of the test."""
