"""Runs acme2certifier over HTTPS, by the Python of its own environment; started by tests/support/acme2certifier.py.

    python acme2certifier_server.py PORT CERTIFICATE KEY HTTP_PORT TLS_PORT

It looks at the ports that a test can have instead of 80 and 443, and at nothing else otherwise.
"""

import base64
import io
import json
import socket
import ssl
import sys
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import socks  # type: ignore[import-untyped]  # of acme2certifier's environment

PORT, CERT, KEY, HTTP_PORT, TLS_PORT = sys.argv[1:]
ELSEWHERE = {80: int(HTTP_PORT), 443: int(TLS_PORT)}


def elsewhere(connect: Any) -> Any:
    """A `connect` that goes to the ports of the test."""

    def connected(self: Any, address: Any, *more: Any) -> Any:
        if isinstance(address, tuple):
            address = address[0], ELSEWHERE.get(address[1], address[1]), *address[2:]
        return connect(self, address, *more)

    return connected


def heard(application: Any) -> Any:
    """The application, which says what it is sent (RFC 8555 section 6.2)."""

    def called(environ: dict[str, Any], start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if body:
            payload = base64.urlsafe_b64decode(json.loads(body)["payload"] + "==")
            print(environ["PATH_INFO"], *payload.decode().split(), flush=True)  # noqa: T201 - its log
        return application(environ, start_response)

    return called


class Server(ThreadingMixIn, WSGIServer):
    """Several requests at once: it validates while the client asks how far it is."""

    daemon_threads = True


class Handler(WSGIRequestHandler):
    """Says which requests it gets, and that they came over TLS."""

    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), "wsgi.url_scheme": "https", "HTTP_X_FORWARDED_PROTO": "https"}


def main() -> None:
    """Serve until the process ends."""
    from acme2certifier.share.acme2certifier_wsgi import application  # type: ignore[import-not-found]  # noqa: PLC0415

    socket.socket.connect = elsewhere(socket.socket.connect)  # type: ignore[method-assign]
    socks.socksocket.connect = elsewhere(socks.socksocket.connect)
    server = make_server("127.0.0.1", int(PORT), heard(application), server_class=Server, handler_class=Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERT, KEY)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
