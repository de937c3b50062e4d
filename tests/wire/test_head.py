"""The head scan: what is refused, what is understood, and that others understand the same."""

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.head import parse_request, parse_response

G = b"GET / HTTP/1.1\r\nHost: a\r\n"
P = b"POST / HTTP/1.1\r\nHost: a\r\n"

REFUSED = {
    "length and coding": (P + b"Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "coding and length": (P + b"Transfer-Encoding: chunked\r\nContent-Length: 40\r\n\r\n", 400),
    "coding list": (P + b"Transfer-Encoding: chunked, identity\r\n\r\n", 400),
    "coding with a comma first": (P + b"Transfer-Encoding: ,chunked\r\n\r\n", 400),
    "coding gzip, chunked": (P + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
    "coding twice": (P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "coding xchunked": (P + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
    "coding with a vertical tab": (P + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    "coding empty": (P + b"Transfer-Encoding:\r\n\r\n", 400),
    "coding in HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    **{
        f"length {text!r}": (P + b"Content-Length: " + text + b"\r\n\r\n", 400)
        for text in (b"+5", b"-5", b"5, 6", b"5,5", b"0x5", b"5_0", b"", b"5 5", b"1" * 30, b"\xb2")
    },
    "length twice": (P + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
    "length twice, differing": (P + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    "folded line": (G + b"X: a\r\n b\r\n\r\n", 400),
    "space before the first header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "bare LF after the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare LF after a header": (G + b"X: a\nY: b\r\n\r\n", 400),
    "bare LF at the end": (G + b"\n", 400),
    "bare CR in a value": (G + b"X: a\rSet-Cookie: evil=1\r\n\r\n", 400),
    "bare CR in the request line": (b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space before the colon": (G + b"Transfer-Encoding : chunked\r\n\r\n", 400),
    "space in a name": (G + b"Content Length: 5\r\n\r\n", 400),
    "no name": (G + b": x\r\n\r\n", 400),
    "no colon": (G + b"nothing\r\n\r\n", 400),
    "brackets in a name": (G + b"X[]: a\r\n\r\n", 400),
    "a name beyond ASCII": (G + b"\x85: a\r\n\r\n", 400),
    "NUL in a method": (b"GE\0T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "NUL in a target": (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "NUL in a name": (G + b"X\0: a\r\n\r\n", 400),
    "NUL in a value": (G + b"X: a\0b\r\n\r\n", 400),
    "control byte in a value": (G + b"X: a\x01b\r\n\r\n", 400),
    "DEL in a value": (G + b"X: 0123456789\x7fb\r\n\r\n", 400),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (G + b"Host: a\r\n\r\n", 400),
    **{
        f"Host {text!r}": (b"GET / HTTP/1.1\r\nHost: " + text + b"\r\n\r\n", 400)
        for text in (
            b"",
            b"a b",
            b"a@b",
            b"4714::1:80",
            b"a,b",
            b"a\\b",
            b"a:b",
            b"a:99999",
            b"[::1",
            b"[]",
            b"a/b",
            b":80",
        )
    },
    "target and Host disagree": (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target with userinfo": (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "GET *": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target without a slash": (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a target beyond ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tab for a space": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a tunnel": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/0.9 by name": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "HTTP/2.0 as text": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "HTTP/1.10": (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    "another protocol's name": (b"GET / ICE/1.0\r\nHost: a\r\n\r\n", 400),
    "lower-case version": (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    "the HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\n", 505),
    "an unknown expectation": (P + b"Expect: x 100-continue\r\n\r\n", 417),
    "a URL too long": (b"GET /" + b"a" * 17000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a header too large": (G + b"X: " + b"a" * 33000 + b"\r\n\r\n", 431),
    "too many headers": (G + b"X: a\r\n" * 100 + b"\r\n", 431),
    "a method without end": (b"A" * 40 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
}


@pytest.mark.parametrize("data, status", REFUSED.values(), ids=REFUSED)
def test_refuses(data: bytes, status: int) -> None:
    assert parse_request(data)[0] == status


ACCEPTED = {
    "length with a zero first": (P + b"Content-Length: 05\r\n\r\n", {"content_length": 5}),
    "chunked in any case": (P + b"Transfer-Encoding: ChunkeD\r\n\r\n", {"chunked": True, "content_length": None}),
    "white space around a value": (
        G + b"X: \t a b \t\r\n\r\n",
        {"headers": [(b"Host", b"a", True), (b"X", b"a b", True)]},
    ),
    "an empty value": (G + b"X:\r\n\r\n", {"headers": [(b"Host", b"a", True), (b"X", b"", True)]}),
    "bytes beyond ASCII in a value": (
        G + b"X: \xc3\xa9\r\n\r\n",
        {"headers": [(b"Host", b"a", True), (b"X", b"\xc3\xa9", True)]},
    ),
    "a TAB within a value": (G + b"X: a\tb\r\n\r\n", {"headers": [(b"Host", b"a", True), (b"X", b"a\tb", True)]}),
    "Host with a port": (b"GET / HTTP/1.1\r\nHost: a.b-c_d:8080\r\n\r\n", {"host": b"a.b-c_d"}),
    "Host as IPv6": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", {"host": b"[::1]"}),
    "absolute-form": (
        b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n",
        {"host": b"a", "target": b"/b?c", "path": b"/b"},
    ),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", {"target": b"*"}),
    "HTTP/1.0 without Host": (b"GET / HTTP/1.0\r\n\r\n", {"host": b"", "keep_alive": False}),
    "HTTP/1.0 keep-alive": (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", {"keep_alive": True}),
    "HTTP/1.1 close": (G + b"Connection: foo, close\r\n\r\n", {"keep_alive": False}),
    "an expectation": (P + b"Content-Length: 1\r\nExpect: 100-Continue\r\n\r\n", {"expects": True}),
    "an expectation of HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", {"expects": False}),
    "a query with a second question mark": (
        b"GET /a?b?c HTTP/1.1\r\nHost: a\r\n\r\n",
        {"path": b"/a", "target": b"/a?b?c"},
    ),
}


def test_a_bad_byte_of_a_value_is_seen_wherever_it_stands() -> None:
    """Values are scanned many bytes at a step: in every place of a step, and beside every other byte."""
    for byte in range(256):
        allowed = (byte >= 0x20 and byte != 0x7F) or byte == 9
        for length in (1, 7, 8, 15, 16, 17, 33):
            for at in range(length):
                value = b"x" * at + bytes([byte]) + b"y" * (length - at - 1)
                status, facts = parse_request(G + b"X: [" + value + b"]\r\n\r\n")
                assert (status == 0) == allowed, (byte, length, at)
                if allowed:
                    assert facts["headers"][1][1] == b"[" + value + b"]"


@pytest.mark.parametrize("data, facts", ACCEPTED.values(), ids=ACCEPTED)
def test_understands(data: bytes, facts: dict[str, object]) -> None:
    status, found = parse_request(data)
    assert status == 0
    assert {name: found[name] for name in facts} == facts


@pytest.mark.parametrize("header", [
    b"Connection: close", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"Proxy-Authorization: x",
    b"TE: trailers", b"Trailer: X", b"Upgrade: h2c", b"HTTP2-Settings: AAAA", b"Content_Length: 5",
    b"X_Forwarded_For: 1.2.3.4", b"transfer_encoding: chunked",
])  # fmt: skip
def test_does_not_forward(header: bytes) -> None:
    _, found = parse_request(G + header + b"\r\n\r\n")
    assert [forwarded for name, _, forwarded in found["headers"]] == [True, False]


def test_forwards_nothing_that_connection_names_but_what_servers_need() -> None:
    named = (
        G
        + b"Connection: close, X-Hop, Cookie, Host, Authorization\r\nX-Hop: 1\r\nCookie: a=b\r\nAuthorization: c\r\n\r\n"
    )
    _, found = parse_request(named)
    assert {name: forwarded for name, _, forwarded in found["headers"]} == {
        b"Host": True, b"Connection": False, b"X-Hop": False, b"Cookie": True, b"Authorization": True,
    }  # fmt: skip


def test_every_shorter_head_is_incomplete_or_refused() -> None:
    whole = P + b"Content-Length: 5\r\nX-Header: some value\r\n\r\n"
    for end in range(len(whole)):
        with pytest.raises(ValueError, match="incomplete"):
            parse_request(whole[:end])
    assert parse_request(whole)[0] == 0


R = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("data", [
    b"HTTP/2.0 200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n", b"HTTP/1.1 600 X\r\n\r\n", b"HTTP/1.1 099 X\r\n\r\n",
    b"HTTP/1.1  200 OK\r\n\r\n", b"HTTP/1.1 200OK\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"garbage and more\r\n\r\n",
    b"HTTP/1.1 200 O\rK\r\n\r\n", R + b"X: a\rSet-Cookie: evil=1\r\n\r\n", R + b"X: a\r\n b\r\n\r\n", R + b"X : a\r\n\r\n",
    R + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", R + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    R + b"Content-Length: -1\r\n\r\n", R + b"Transfer-Encoding: gzip, chunked\r\n\r\n", R + b"X: a\nY: b\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", R + b"X: " + b"a" * 10 + b"\0\r\n\r\n",
])  # fmt: skip
def test_refuses_response(data: bytes) -> None:
    assert parse_response(data)[0] == 502


@pytest.mark.parametrize("line, status, reason", [
    (b"HTTP/1.1 200 OK", 200, b"OK"), (b"HTTP/1.0 404 Not Found", 404, b"Not Found"), (b"HTTP/1.1 204 ", 204, b""),
    (b"HTTP/1.1 599", 599, b""),
])  # fmt: skip
def test_understands_status_line(line: bytes, status: int, reason: bytes) -> None:
    code, found = parse_response(line + b"\r\nX: a\r\n\r\n")
    assert (code, found["status"], found["reason"]) == (0, status, reason)


# ------------------------------------------------------------------------------------------------ the same to others

NAMES = st.sampled_from([
    b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"X-Any", b"Cookie", b"Expect", b"content-length",
    b"Content-Length ", b"X\x00", b"", b"TE", b"Upgrade",
])  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [
            b"a",
            b"5",
            b"05",
            b"+5",
            b"chunked",
            b"chunked ",
            b"close",
            b"a:80",
            b"100-continue",
            b"",
            b"a\r\n b",
            b"x\ny",
        ]
    ),
    st.binary(max_size=12),
)
LINES = st.sampled_from([
    b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"GET http://a/x HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET / HTTP/1.0",
    b"DELETE /%41%zz HTTP/1.1", b"GET /#x HTTP/1.1", b"GET  / HTTP/1.1",
])  # fmt: skip
HEADS = st.builds(
    lambda line, fields: line + b"\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n",
    LINES,
    st.lists(st.tuples(NAMES, VALUES), max_size=5).map(lambda fields: [(b"Host", b"a"), *fields]),
)


class Seen:
    """What httptools (llhttp) makes of a head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


@pytest.mark.slow
@settings(max_examples=1500)
@given(HEADS)
def test_what_is_accepted_means_the_same_to_llhttp_and_h11(head: bytes) -> None:
    try:
        status, found = parse_request(head)
    except ValueError:
        return
    if status:
        return
    head = head[: found["length"]]
    ours = [(name, value) for name, value, _ in found["headers"]]
    method = head.split(b" ")[0]

    seen = Seen()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(head)
    assert seen.complete
    assert parser.get_method() == method == found["method"]
    assert seen.url.endswith(found["target"])
    # llhttp keeps white space that ends a value.
    assert [(name, value.strip(b" \t")) for name, value in seen.headers] == ours

    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert event.method == method
    assert event.target.endswith(found["target"])
    assert (
        event.headers.raw_items()
        == [(name, b"%d" % int(value) if name.lower() == b"content-length" else value) for name, value in ours]
        or event.headers.raw_items() == ours
    )


def test_the_end_is_found_wherever_it_stands() -> None:
    """Lines are looked for in many bytes at a step: the end of a head can be anywhere in a step, and in what is left."""
    for length in range(150):
        whole = G + b"X: " + b"x" * length + b"\r\nY: y\r\n\r\n"
        for after in (b"", b"\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r" * 70):
            status, found = parse_request(whole + after)
            assert (status, found["length"]) == (0, len(whole))
        for end in (len(whole) - 1, len(whole) - 2, len(whole) - 3):
            with pytest.raises(ValueError, match="incomplete"):
                parse_request(whole[:end])


def test_a_bare_line_feed_is_seen_wherever_it_stands() -> None:
    whole = G + b"X: " + b"x" * 150 + b"\r\n\r\n"
    first = len(G) + 3
    for at in range(first, first + 150):
        # Also while the head is incomplete, so that it is refused at once.
        for end in (at + 1, len(whole) - 2, len(whole)):
            data = bytearray(whole[:end])
            data[at] = 10
            assert parse_request(bytes(data)) == (400, "a line does not end with CRLF")


TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
HOP = {
    b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"http2-settings", b"transfer-encoding",
    b"content-length", b"proxy-a", b"proxy-connection", b"proxy-authorization",
}  # fmt: skip
END_TO_END = {
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-a", b"x-forwarded-a-b", b"x-real-ip",
    b"forwarded", b"via", b"expect", b"cookie", b"user-agent", b"referer", b"authorization", b"content-type",
    b"cache-control", b"set-cookie", b"date", b"server",
}  # fmt: skip
VALUE_OF = {b"content-length": b"0", b"transfer-encoding": b"chunked", b"expect": b"100-continue"}


def dropped(name: bytes) -> bool:
    """Whether a field must not go on, by its name alone: it is hop-by-hop, or passes for one that is known."""
    plain = name.lower().replace(b"_", b"-")
    start = next((start for start in (b"proxy-", b"x-forwarded-") if plain.startswith(start) and plain != start), plain)
    if start != plain and plain not in HOP | END_TO_END:
        return start == b"proxy-" or b"_" in name[: len(start)]
    if plain in (b"x-forwarded-a", b"x-forwarded-a-b"):
        return b"_" in name[: len(start)]
    return plain in HOP or (plain in END_TO_END and b"_" in name)


@pytest.mark.parametrize("name", sorted(HOP | END_TO_END))
def test_a_name_that_differs_in_one_byte_is_another(name: bytes) -> None:
    value = VALUE_OF.get(name, b"x")
    spellings = {name, name.upper(), name.title(), name.replace(b"-", b"_"), name + b"x", b"x" + name, name[:-1]}
    spellings |= {name[:at] + bytes([byte]) + name[at + 1 :] for at in range(len(name)) for byte in TOKEN}
    for spelling in spellings:
        status, found = parse_request(G + spelling + b": " + value + b"\r\n\r\n")
        assert status == 0, spelling
        assert found["headers"][1] == (spelling, value, not dropped(spelling)), spelling


def test_any_byte_at_any_place_of_a_name() -> None:
    for length in (1, 2, 14, 15, 16, 17, 18, 31, 32, 33, 34):
        for at in range(length):
            for byte in range(256):
                name = bytearray(b"n" * length)
                name[at] = byte
                status, found = parse_request(G + name + b":v\r\n\r\n")
                if byte == ord(":"):
                    assert status == (400 if at == 0 else 0)
                    continue
                assert (status == 0) == (byte in TOKEN), (length, at, byte)
                if status == 0:
                    assert found["headers"][1][:2] == (bytes(name), b"v")


def test_any_byte_at_any_place_of_a_path() -> None:
    for length in (1, 2, 15, 16, 17, 31, 32, 33):
        for at in range(length):
            for byte in set(range(256)) - set(b" ?"):
                path = bytearray(b"p" * length)
                path[at] = byte
                status, found = parse_request(b"GET /" + path + b"?q HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (status == 0) == (33 <= byte <= 126 and byte != ord("#")), (length, at, byte)
                if status == 0:
                    assert (found["path"], found["target"]) == (b"/" + path, b"/" + path + b"?q")
