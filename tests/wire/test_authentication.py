"""Which heads are about authenticating a connection."""

import pytest

from gateway.wire.authentication import binds


@pytest.mark.parametrize("field, bound", [
    (b"WWW-Authenticate: NTLM", True), (b"www-authenticate: negotiate", True), (b"WWW-Authenticate: NTLM TlRMTVNTUAACAAAA", True),
    (b'WWW-Authenticate: Basic realm="a", Negotiate', True), (b"WWW-Authenticate: Basic realm=a\r\nWWW-Authenticate: NTLM", True),
    (b"WWW-Authenticate: Negotiate,NTLM", True), (b"WWW-Authenticate:\tNTLM", True), (b"Proxy-Authenticate: NTLM", True),
    (b'WWW-Authenticate: Basic realm="a, NTLM"', False), (b'WWW-Authenticate: Basic realm="\\", NTLM"', False),
    (b"WWW-Authenticate: NTLMv2", False), (b"WWW-Authenticate: Basic NTLM", False), (b"X-Authenticate: NTLM", False),
    (b"WWW-Authenticate:", False), (b"WWW-Authenticate: , ,", False), (b'WWW-Authenticate: Basic realm="', False),
    (b'WWW-Authenticate: Basic realm="\\', False), (b"Proxy-Status: NTLM", False),
])  # fmt: skip
def test_challenges(field: bytes, *, bound: bool) -> None:
    assert binds(b"HTTP/1.1 401 Unauthorized\r\n" + field + b"\r\n\r\n") is bound


@pytest.mark.parametrize("field, bound", [
    (b"Authorization: NTLM TlRMTVNTUAAB", True), (b"authorization: NEGOTIATE YII=", True), (b"Authorization: Negotiate", True),
    (b"Authorization: Basic NTLM", False), (b"Authorization: Bearer x, NTLM", False), (b"X-Authorization: NTLM x", False),
])  # fmt: skip
def test_credentials(field: bytes, *, bound: bool) -> None:
    assert binds(b"GET / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n") is bound
