"""A server for trying out tiers: says its name, and what the next tier says: tier.py ADDRESS PORT NAME [URL]."""

import http.client
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    """Answers every path alike."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say the names."""
        body = sys.argv[3]
        if len(sys.argv) > 4 and self.path != "/healthz":
            url = urlsplit(sys.argv[4])
            connection = http.client.HTTPConnection(url.netloc, timeout=5, source_address=(sys.argv[1], 0))
            connection.request("GET", url.path)
            response = connection.getresponse()
            body += f" {response.status} {response.read().decode()}"
            connection.close()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


# The first process of a container ignores every signal for which it has no handler.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
