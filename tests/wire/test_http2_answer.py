"""Header blocks of HTTP/2 responses, made into heads of HTTP/1, or refused by name."""

import pytest

from gateway.wire.http2_answer import answer_of

OK = (b":status", b"200")


def test_a_block_becomes_a_head() -> None:
    block = [OK, (b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-empty", b"")]
    assert answer_of(block) == (
        b"HTTP/1.1 200 \r\ncontent-type: text/plain\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-empty: \r\n\r\n"
    )
    assert answer_of([(b"grpc-status", b"0")], trailers=True) == b"grpc-status: 0\r\n"


@pytest.mark.parametrize(
    "block, sentence",
    [
        ([], "exactly one :status"),
        ([(b"a", b"1")], "exactly one :status"),
        ([OK, OK], "exactly one :status"),
        ([(b"a", b"1"), OK], "exactly one :status"),
        ([(b":status", b"20")], "exactly one :status"),
        ([(b":status", b"2000")], "exactly one :status"),
        ([(b":status", b"+20")], "the status line is not valid"),
        ([(b":status", b"099")], "the status line is not valid"),
        ([(b":status", b"600")], "the status line is not valid"),
        ([OK, (b":path", b"/")], "exactly one :status"),
        ([OK, (b"A", b"1")], "a header name has capital letters"),
        ([OK, (b"a b", b"1")], "a header name is not a token"),
        ([OK, (b"", b"1")], "a header name is not a token"),
        ([OK, (b"a:b", b"1")], "a header name is not a token"),
        ([OK, (b"a", b"1\r\nset-cookie: b")], "a header value contains a control byte"),
        ([OK, (b"a", b"1\n")], "a header value contains a control byte"),
        ([OK, (b"a", b"\x00")], "a header value contains a control byte"),
        ([OK, (b"a", b"\x01")], "a header value contains a control byte"),
        ([OK, (b"a", b" 1")], "a header value contains a control byte"),
        ([OK, (b"connection", b"close")], "a header is about the connection"),
        ([OK, (b"transfer-encoding", b"chunked")], "a header is about the connection"),
        ([OK, (b"keep-alive", b"5")], "a header is about the connection"),
        ([OK, (b"upgrade", b"h2c")], "a header is about the connection"),
        ([OK, (b"proxy-connection", b"close")], "a header is about the connection"),
        ([OK, (b"te", b"trailers")], "a header is about the connection"),
        ([OK, (b"content-length", b"+5")], "Content-Length is not a plain number"),
        ([OK, (b"content-length", b"5"), (b"content-length", b"5")], "there is more than one Content-Length"),
        ([OK, *[(b"a", b"1")] * 1001], "there are too many headers"),
        ([OK, (b"a", bytes(70_000).replace(b"\0", b"a"))], "the headers are too large"),
    ],
)
def test_what_is_refused(block: list[tuple[bytes, bytes]], sentence: str) -> None:
    found = answer_of(block)
    assert isinstance(found, str)
    assert sentence in found


@pytest.mark.parametrize("field", [(b":status", b"200"), (b"A", b"1"), (b"a", b"\r"), (b"connection", b"close")])
def test_trailers_that_are_refused(field: tuple[bytes, bytes]) -> None:
    assert isinstance(answer_of([(b"ok", b"1"), field], trailers=True), str)
