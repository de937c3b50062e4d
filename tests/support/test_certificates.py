import socket
import ssl
import threading

import pytest

from tests.support.raw import RawClient


def serve_once(listener, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    connection, _ = listener.accept()
    try:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1000)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except OSError:
        connection.close()


@pytest.fixture
def tls_port(authority):
    certificate = authority.issue("www.example.com", "*.shop.example.com", "127.0.0.1")
    assert certificate.key.stat().st_mode & 0o077 == 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_once, args=(listener, certificate))
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize("name", ["www.example.com", "a.shop.example.com", "127.0.0.1"])
def test_certificate_holds_for_its_names(authority, tls_port, name):
    with RawClient(tls_port, authority.client_context(), name) as client:
        assert client.get().body == b"ok"


def test_certificate_does_not_hold_for_others(authority, tls_port):
    with pytest.raises(ssl.SSLCertVerificationError):
        RawClient(tls_port, authority.client_context(), "other.example.com")
