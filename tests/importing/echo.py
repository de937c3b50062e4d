"""Servers of the tests: each says in JSON who it is and what it has received."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, name: str, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = name
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that ends early is no concern of a test."""


class _Handler(BaseHTTPRequestHandler):
    """`/status/N`, `/location/PATH` and `/header/NAME/VALUE`, anywhere in a path, say what is answered."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = {
            "server": self.server.name,
            "method": self.command,
            "target": self.path,
            "headers": self.headers.items(),
        }
        body = json.dumps({**seen, "headers": self.headers.items()}).encode()
        path = self.path.partition("?")[0]
        self.send_response(int(path.partition("/status/")[2] or (302 if "/location/" in path else 200)))
        if "/location/" in path:
            self.send_header("Location", f"http://{self.headers['Host']}/{path.partition('/location/')[2]}")
        if "/header/" in path:
            name, _, value = path.partition("/header/")[2].partition("/")
            self.send_header(name, unquote(value).replace("!", "/"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_DELETE = do_OPTIONS = do_PUT = do_PURGE = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def servers(names: tuple[str, ...], context: ssl.SSLContext) -> Iterator[dict[str, int]]:
    """Run servers of these names, those that begin with t over TLS; their ports by name."""
    running = [_Server(name, context if name.startswith("t") else None) for name in names]
    for server in running:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield {server.name: server.server_address[1] for server in running}
    finally:
        for server in running:
            server.shutdown()
            server.server_close()
