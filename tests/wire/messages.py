"""Hypothesis strategies for HTTP/1 messages: good ones, and good ones with something wrong."""

from hypothesis import strategies as st

TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RESERVED = {
    b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade", b"te", b"trailer", b"keep-alive",
}  # fmt: skip


def text(alphabet: bytes, least: int, most: int) -> st.SearchStrategy[bytes]:
    """Strings of some of these bytes."""
    return st.text(alphabet.decode(), min_size=least, max_size=most).map(str.encode)


methods = st.one_of(
    st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH", b"PROPFIND"]),
    text(TOKEN, 1, 12).filter(lambda method: method != b"CONNECT"),
)
segments = text(b"abcXYZ019-._~!$&'()*+,;=:@%", 0, 6)
targets = st.one_of(
    st.sampled_from([b"/", b"/a/b?c=d", b"/?", b"/%41?%", b"http://a/x?y", b"HTTP://a/", b"/a?b?c/../d"]),
    st.lists(segments, max_size=4).map(lambda parts: b"/" + b"/".join(parts)),
)
names = text(TOKEN, 1, 12).filter(lambda name: name.lower().replace(b"_", b"-") not in RESERVED)
values = st.one_of(
    st.binary(max_size=16).map(lambda data: bytes(c for c in data if c == 9 or (c >= 32 and c != 127)).strip(b" \t")),
    st.just(b'a, b;c="d"'),
)
spaces = st.sampled_from([b"", b" ", b"\t", b"  ", b" \t "])
lines = st.builds(
    lambda name, before, value, after: name + b":" + before + value + after + b"\r\n", names, spaces, values, spaces
)

sizes = st.sampled_from(["%x", "%X", "0%x", "00%X"])
extensions = st.sampled_from([b"", b";a", b";a=b", b';a="b"'])
trailers = st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\r\nC:d\r\n"])
SURPRISES = [
    b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"5", b"\x7f", b"\x80", b"_", b"-", b"%", b"/", b"\\",
    b"chunked", b"\r\nContent-Length: 3", b"\r\nTransfer-Encoding: chunked", b"\r\n\r\n", b"\r\n x", b"\x0b", b"+", b"\xff",
]  # fmt: skip


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Give a chunked body and what it holds."""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4))
    coded = b"".join(
        (draw(sizes) % len(piece)).encode() + draw(extensions) + b"\r\n" + piece + b"\r\n" for piece in pieces
    )
    return coded + b"0" + draw(extensions) + b"\r\n" + draw(trailers) + b"\r\n", b"".join(pieces)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Give a request that must be accepted, and the content of its body."""
    version = draw(st.sampled_from([b"1", b"1", b"1", b"0"]))
    fields = draw(st.lists(lines, max_size=4))
    fields.insert(
        draw(st.integers(0, len(fields))), draw(st.sampled_from([b"Host: a\r\n", b"host:a\r\n", b"HOST: \ta \r\n"]))
    )
    body = content = b""
    framing = draw(st.sampled_from(["none", "length", "chunks"] if version == b"1" else ["none", "length"]))
    if framing == "length":
        body = content = draw(st.binary(max_size=60))
        fields.insert(draw(st.integers(0, len(fields))), b"Content-Length: %d\r\n" % len(body))
    elif framing == "chunks":
        body, content = draw(chunked_bodies())
        fields.insert(
            draw(st.integers(0, len(fields))),
            draw(st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:Chunked\r\n"])),
        )
    start = draw(methods) + b" " + draw(targets) + b" HTTP/1." + version + b"\r\n"
    return start + b"".join(fields) + b"\r\n" + body, content


@st.composite
def damaged(draw: st.DrawFn, good: st.SearchStrategy[tuple[bytes, bytes]]) -> bytes:
    """Give a good message with one to three surprises in it: bytes put in, taken out, or replaced."""
    data, _ = draw(good)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(SURPRISES)) + data[at + draw(st.integers(0, 2)) :]
    return data


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Give a response that must be accepted, and the content of its body."""
    status = draw(
        st.sampled_from([b"200 OK", b"200 ", b"404 Not Found", b"204 No Content", b"304 Not Modified", b"599 \xe9"])
    )
    fields = draw(st.lists(lines, max_size=4))
    body = content = b""
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    if framing == "length":
        body = content = b"" if status[:3] in {b"204", b"304"} else draw(st.binary(max_size=60))
        fields.append(b"Content-Length: %d\r\n" % len(body))
    elif framing == "chunks" and status[:3] not in {b"204", b"304"}:
        body, content = draw(chunked_bodies())
        fields.append(b"Transfer-Encoding: chunked\r\n")
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(fields) + b"\r\n" + body, content
