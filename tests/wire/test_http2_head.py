"""Header blocks of HTTP/2 become heads that the scan of HTTP/1 reads in one way, or are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.head import parse_request
from gateway.wire.http2_head import head_of

METHOD, SCHEME, AUTHORITY, PATH = (
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"a.example"),
    (b":path", b"/x"),
)
PSEUDO = [METHOD, SCHEME, AUTHORITY, PATH]
CONNECT = [(b":method", b"CONNECT"), SCHEME, AUTHORITY, PATH]
WEBSOCKET = (b":protocol", b"websocket")


def test_a_block_becomes_a_head() -> None:
    fields = [
        *PSEUDO,
        (b"accept", b"*/*"),
        (b"cookie", b"a=1"),
        (b"x-empty", b""),
        (b"cookie", b"b=2"),
        (b"te", b"trailers"),
    ]
    text = b"GET /x HTTP/1.1\r\nHost: a.example\r\naccept: */*\r\nx-empty: \r\nte: trailers\r\ncookie: a=1; b=2\r\n\r\n"
    assert head_of(fields) == (0, text, False)


def test_a_websocket_becomes_its_handshake() -> None:
    fields = [*CONNECT, WEBSOCKET, (b"sec-websocket-version", b"13"), (b"sec-websocket-key", b"mine"), (b"a", b"b")]
    texts = [head_of(fields, has_body=True)[1] for _ in range(2)]
    start = b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "
    for text in texts:
        assert text.startswith(start)
        assert text[len(start) + 24 :] == b"\r\nsec-websocket-version: 13\r\na: b\r\n\r\n"
    assert texts[0] != texts[1]


def test_a_body_without_a_length_goes_on_in_chunks() -> None:
    assert head_of(PSEUDO, has_body=True)[2]
    assert not head_of([*PSEUDO, (b"content-length", b"5")], has_body=True)[2]


def test_hosts_that_agree_are_one() -> None:
    without = [METHOD, SCHEME, PATH, (b"host", b"a.example")]
    assert head_of(without)[1] == b"GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n"
    assert head_of([*PSEUDO, (b"host", b"A.example")])[1].lower().count(b"host:") == 1


REFUSED = {
    "no method": ([SCHEME, AUTHORITY, PATH], 400),
    "no scheme": ([METHOD, AUTHORITY, PATH], 400),
    "no path": ([METHOD, SCHEME, AUTHORITY], 400),
    "no fields": ([], 400),
    "no host": ([METHOD, SCHEME, PATH], 400),
    "an empty authority": ([METHOD, SCHEME, PATH, (b":authority", b"")], 400),
    "an authority with userinfo": ([METHOD, SCHEME, PATH, (b":authority", b"u@a")], 400),
    "two methods": ([METHOD, *PSEUDO], 400),
    "two paths": ([*PSEUDO, PATH], 400),
    "two authorities": ([*PSEUDO, AUTHORITY], 400),
    "an unknown pseudo-header": ([*PSEUDO, (b":color", b"red")], 400),
    "a response's pseudo-header": ([*PSEUDO, (b":status", b"200")], 400),
    "a late pseudo-header": ([METHOD, SCHEME, AUTHORITY, (b"a", b"b"), PATH], 400),
    ":protocol without CONNECT": ([*PSEUDO, (b":protocol", b"websocket")], 400),
    "another scheme": ([METHOD, (b":scheme", b"ftp"), AUTHORITY, PATH], 400),
    "an empty path": ([METHOD, SCHEME, AUTHORITY, (b":path", b"")], 400),
    "a path without a slash": ([METHOD, SCHEME, AUTHORITY, (b":path", b"x")], 400),
    "an absolute path": ([METHOD, SCHEME, AUTHORITY, (b":path", b"http://b.example/")], 400),
    "a path with a space": ([METHOD, SCHEME, AUTHORITY, (b":path", b"/x HTTP/1.1")], 400),
    "a path with a line": ([METHOD, SCHEME, AUTHORITY, (b":path", b"/ HTTP/1.1\r\nx: y")], 400),
    "a star that is not for OPTIONS": ([METHOD, SCHEME, AUTHORITY, (b":path", b"*")], 400),
    "a method with a space": ([(b":method", b"GET /"), SCHEME, AUTHORITY, PATH], 400),
    "a method with a line": ([(b":method", b"GET / HTTP/1.1\r\nx:"), SCHEME, AUTHORITY, PATH], 400),
    "CONNECT": ([(b":method", b"CONNECT"), AUTHORITY], 501),
    "CONNECT to another protocol": ([*CONNECT, (b":protocol", b"websockets")], 501),
    "a WebSocket without a path": ([CONNECT[0], SCHEME, AUTHORITY, WEBSOCKET], 400),
    "a WebSocket with a length": ([*CONNECT, WEBSOCKET, (b"content-length", b"5")], 400),
    "two :protocol": ([*CONNECT, WEBSOCKET, WEBSOCKET], 400),
    "another Host": ([*PSEUDO, (b"host", b"b.example")], 400),
    "two Hosts": ([*PSEUDO, (b"host", b"a.example"), (b"host", b"a.example")], 400),
    "two Hosts without an authority": ([METHOD, SCHEME, PATH, (b"host", b"a"), (b"host", b"a")], 400),
    "a capital letter": ([*PSEUDO, (b"Accept", b"*/*")], 400),
    "an empty name": ([*PSEUDO, (b"", b"x")], 400),
    "a name with a colon": ([*PSEUDO, (b"a:b", b"x")], 400),
    "a name with a space": ([*PSEUDO, (b"a ", b"x")], 400),
    "a name with a line": ([*PSEUDO, (b"a\r\nb", b"x")], 400),
    "a value with CR LF": ([*PSEUDO, (b"a", b"x\r\nb: y")], 400),
    "a value with LF": ([*PSEUDO, (b"a", b"x\ny")], 400),
    "a value with CR": ([*PSEUDO, (b"a", b"x\ry")], 400),
    "a value with NUL": ([*PSEUDO, (b"a", b"x\0y")], 400),
    "a value with another control byte": ([*PSEUDO, (b"a", b"x\x01y")], 400),
    "a cookie with a line": ([*PSEUDO, (b"cookie", b"a=1\r\nx: y")], 400),
    "a value that begins with a space": ([*PSEUDO, (b"a", b" x")], 400),
    "a value that ends with a tab": ([*PSEUDO, (b"a", b"x\t")], 400),
    "Connection": ([*PSEUDO, (b"connection", b"close")], 400),
    "Keep-Alive": ([*PSEUDO, (b"keep-alive", b"1")], 400),
    "Proxy-Connection": ([*PSEUDO, (b"proxy-connection", b"close")], 400),
    "Transfer-Encoding": ([*PSEUDO, (b"transfer-encoding", b"chunked")], 400),
    "Upgrade": ([*PSEUDO, (b"upgrade", b"h2c")], 400),
    "TE other than trailers": ([*PSEUDO, (b"te", b"gzip")], 400),
    "a Content-Length that is no number": ([*PSEUDO, (b"content-length", b"+5")], 400),
    "two Content-Lengths": ([*PSEUDO, (b"content-length", b"5"), (b"content-length", b"5")], 400),
    "a Content-Length without a body": ([*PSEUDO, (b"content-length", b"5")], 400),
    "an unknown expectation": ([*PSEUDO, (b"expect", b"miracles")], 417),
    "a long path": ([METHOD, SCHEME, AUTHORITY, (b":path", b"/" * 17000)], 414),
    "too many fields": ([*PSEUDO, *[(b"a", b"")] * 101], 431),
    "too many crumbs": ([*PSEUDO, *[(b"cookie", b"")] * 200], 431),
    "too many bytes": ([*PSEUDO, (b"a", b"x" * 33000)], 431),
}


@pytest.mark.parametrize("fields, status", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(fields: list[tuple[bytes, bytes]], status: int) -> None:
    assert head_of(fields)[0] == status


def test_a_cookie_field_in_many_crumbs_is_one_field() -> None:
    whole = "; ".join(f"c{number}=v" for number in range(900))
    crumbs = [(b"cookie", cookie.encode()) for cookie in whole.split("; ")]
    assert head_of([*PSEUDO, *crumbs]) == head_of([*PSEUDO, (b"cookie", whole.encode())])
    assert head_of([*PSEUDO, *crumbs])[0] == 0
    assert head_of([*PSEUDO, *[(b"cookie", b"a=1234567")] * 2500])[0] == 431  # the limit in bytes holds


def test_trailers_are_lines_and_nothing_more() -> None:
    assert head_of([(b"x-sum", b"1"), (b"y", b"")], trailers=True) == (0, b"x-sum: 1\r\ny: \r\n", False)
    for bad in ((b":path", b"/"), (b"X", b"y"), (b"connection", b"close"), (b"a", b"b\r\nc: d")):
        assert head_of([bad], trailers=True)[0] == 400


TEXT = st.binary(max_size=12) | st.sampled_from(
    [b"a", b"\r\n", b" HTTP/1.1\r\nHost: b\r\n\r\n", b"/", b"GET", b"https", b"x: y"]
)
NAMES = TEXT | st.sampled_from([b":method", b":path", b":scheme", b":authority", b"host", b"cookie", b"content-length"])


@given(st.lists(st.tuples(NAMES, TEXT), max_size=6), st.integers(0, 1))
def test_whatever_passes_is_one_head_of_the_same_fields(extra: list[tuple[bytes, bytes]], whole: int) -> None:
    fields = [*PSEUDO, *extra] if whole else extra
    status, text, *_ = head_of(fields, has_body=True)
    if status:
        return
    why, facts = parse_request(text)
    assert why == 0
    assert facts["length"] == len(text)
    plain = [(name, value) for name, value in extra if not name.startswith(b":") and name not in {b"cookie", b"host"}]
    read = [(name, value) for name, value, _ in facts["headers"] if name not in {b"cookie", b"host", b"Host"}]
    assert read == plain
