import ssl
from pathlib import Path

from gateway.config import certificate
from tests.support.certificates import Authority


def test_a_context_from_memory_serves_the_certificate(authority: Authority) -> None:
    pair = authority.issue("www.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    before = len(list(Path("/proc/self/fd").iterdir()))
    certificate.load(context, pair.cert.read_bytes(), pair.key.read_bytes())
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = authority.client_context().wrap_bio(to_client, to_server, server_hostname="www.example.com")
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(pair.cert.read_text())
