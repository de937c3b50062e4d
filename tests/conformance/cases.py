"""Messages that have fooled, stalled or broken proxies, each with its bytes and with what must come of it.

One table for the tests (test_faults.py) and for the comparison with other proxies (compare.py). A case is refused
unless it says otherwise: an error to the client, a closed connection, and no request at the server.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.conformance.recorder import Reply

G = b"GET / HTTP/1.1\r\nHost: a\r\n"
P = b"POST / HTTP/1.1\r\nHost: a\r\n"
C = P + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
KIB = 1024

FAMILIES = {
    1: "Both lengths: Content-Length and Transfer-Encoding",
    2: "Transfer-Encoding that is not one `chunked`",
    3: "Bodies on methods that rarely have one",
    4: "Transfer-Encoding in HTTP/1.0",
    5: "Content-Length that is not a plain number",
    6: "Folded header lines",
    7: "CR or LF alone",
    8: "Malformed chunks",
    9: "Trailers that name framing or routing fields",
    10: "Malformed header names",
    11: "NUL and control bytes",
    12: "Host",
    13: "Request targets",
    14: "Versions",
    15: "Size",
    18: "Connection options",
    19: "Forged addresses",
    20: "Expectations",
    21: "Answers before the upload was read",
    22: "Upgrades",
    26: "Truncated answers",
    27: "Split and poisoned answers",
    29: "Rules",
}


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as the server must have got it: `fields` exactly once each, none whose name is in `without`."""

    line: bytes = b"GET / HTTP/1.1"
    body: bytes = b""
    fields: tuple[bytes, ...] = ()
    without: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """`data` goes to the gateway; the answers have `statuses`, the server gets `arrived` and answers with `reply`.

    methods: of the requests, in order (GET when there are no more). closes: whether the gateway ends the connection
    by itself. arrived: None where it is a matter of luck whether the request gets through in full. whole: whether the answers look complete. never: bytes that neither side may get to see. seen: bytes
    that the client must see.
    """

    family: int
    name: str
    data: bytes
    statuses: tuple[int, ...] = (400,)
    arrived: tuple[Arrived, ...] | None = ()
    reply: Reply | None = None
    methods: tuple[str, ...] = ()
    closes: bool = True
    whole: bool = True
    never: tuple[bytes, ...] = field(default=(b"smuggled", b"evil"))
    seen: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def refused(family: int, data: Iterable[tuple[str, bytes]], status: int = 400) -> Iterator[Case]:
    """Yield cases that are refused with `status`."""
    for name, message in data:
        yield Case(family, name, message, (status,))


def forwarded(family: int, name: str, data: bytes, arrived: Arrived, **rest: object) -> Case:
    """Return a case whose one request is forwarded, and answered with 200."""
    return Case(family, name, data, (200,), (arrived,), closes=False, **rest)  # type: ignore[arg-type]


def answered(family: int, name: str, reply: Reply, statuses: tuple[int, ...] = (502,), **rest: object) -> Case:
    """Return a case of a good GET that the server answers with `reply`."""
    return Case(family, name, G + b"\r\n", statuses, (Arrived(),), reply, **{"closes": False, **rest})  # type: ignore[arg-type]


def get(target: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """Return a GET of `target`."""
    return b"GET " + target + b" " + version + b"\r\nHost: a\r\n\r\n"


FRAMING = [
    *refused(
        1,
        [
            ("CL.TE", P + b"Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED),
            ("TE.CL", P + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n" + SMUGGLED),
            ("zero length and coding", P + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("length, and a coding that is none", P + b"Content-Length: 5\r\nTransfer-Encoding: x\r\n\r\nhello"),
        ],
    ),
    *refused(
        2,
        [
            (text.decode("latin-1").replace("\x0b", "\\x0b"), P + b"Transfer-Encoding: " + text + b"\r\n\r\n0\r\n\r\n" + SMUGGLED)
            for text in (
                b",chunked", b"chunked,", b"chunked, identity", b"chunked, chunked", b"identity, chunked", b"gzip, chunked",
                b"identity", b"xchunked", b"chunkedx", b"x chunked", b"chunked;a=b", b'"chunked"', b"\x0bchunked",
            )
        ],
    ),
    *refused(
        2,
        [
            ("empty", P + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n" + SMUGGLED),
            ("two lines", P + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n"),
            ("two lines, one unknown", P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n"),
            ("NUL before it", P + b"Transfer-Encoding: \0chunked\r\n\r\n0\r\n\r\n"),
            ("NBSP before it", P + b"Transfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n"),
        ],
    ),
    *(
        forwarded(
            3,
            f"{method} with {kind}",
            method.encode() + b" /x HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + body,
            Arrived(f"{method} /x HTTP/1.1".encode(), body, (framing,)),
            methods=(method,),
        )
        for method in ("GET", "DELETE", "OPTIONS", "HEAD", "PROPFIND")
        for kind, framing, body in (
            ("chunks", b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
            ("a length", b"Content-Length: 34", b"GET /x HTTP/1.1\r\nHost: a\r\nX: abc\r\n\r\n"[:34]),
        )
    ),
    *refused(4, [("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED)]),
    *refused(
        4,
        [("chunked in HTTP/1.0, keep-alive",
          b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED)],
    ),
    *refused(
        5,
        [
            (text.decode("latin-1") or "empty", P + b"Content-Length: " + text + b"\r\n\r\nhello" + SMUGGLED)
            for text in (b"+5", b"-5", b"5, 6", b"5, 5", b"0x5", b"5_0", b"", b"5 5", b"5.0", b"5e0", b"9" * 30, b"\xb2", b"18446744073709551621")
        ],
    ),
    *refused(
        5,
        [
            ("5, then 6", P + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
            ("5 twice", P + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
            ("5, then empty", P + b"Content-Length: 5\r\nContent-Length:\r\n\r\nhello"),
        ],
    ),
    forwarded(5, "05", P + b"Content-Length: 05\r\n\r\nhello", Arrived(b"POST / HTTP/1.1", b"hello", (b"Content-Length: 5",))),
    *refused(
        6,
        [
            ("a value", G + b"X: a\r\n b\r\n\r\n"),
            ("a coding", P + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
            ("a length", P + b"Content-Length:\r\n 5\r\n\r\nhello"),
            ("with a TAB", G + b"X: a\r\n\tb\r\n\r\n"),
            ("a line of spaces", G + b"X: a\r\n \r\n\r\n"),
        ],
    ),
    *refused(
        7,
        [
            ("LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
            ("LF after a header", G + b"X: a\nY: b\r\n\r\n"),
            ("LF and a smuggled field", P + b"X: a\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello"),
            ("LF at the end", G + b"\n"),
            ("LFs only", b"GET / HTTP/1.1\nHost: a\n\n"),
            ("CR in a value", G + b"X: a\rY: b\r\n\r\n"),
            ("CR before the CRLF", G + b"X: a\r\r\n\r\n"),
            ("CR in the target", b"GET /\r/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("CR in a name", G + b"X\rY: b\r\n\r\n"),
            ("CR at the end", G + b"\r\r\n\r\n"),
            ("LF CR", G + b"X: a\n\r\n\r\n"),
        ],
    ),
]  # fmt: skip

CHUNKS = [
    *refused(
        8,
        [
            ("CR CR in a chunk line", C + b"5\r\r;a\r\nhello\r\n0\r\n\r\n"),
            ("LF after an extension", C + b"5;a\nhello\r\n0\r\n\r\n"),
            ("LF after a size", C + b"5\nhello\r\n0\r\n\r\n"),
            ("LF in an extension", C + b"2;\nxx\r\n4c\r\n0\r\n\r\n" + SMUGGLED),
            ("size 0x5", C + b"0x5\r\nhello\r\n0\r\n\r\n"),
            ("size 5_0", C + b"5_0\r\nhello\r\n0\r\n\r\n"),
            ("size +5", C + b"+5\r\nhello\r\n0\r\n\r\n"),
            ("size -1", C + b"-1\r\nhello\r\n0\r\n\r\n"),
            ("size with a space first", C + b" 5\r\nhello\r\n0\r\n\r\n"),
            ("size empty", C + b"\r\nhello\r\n0\r\n\r\n"),
            ("size beyond 64 bits", C + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
            ("size that wraps to 5", C + b"10000000000000005\r\nhello\r\n0\r\n\r\n" + SMUGGLED),
            ("size 5 and a space", C + b"5 \r\nhello\r\n0\r\n\r\n"),
            ("size with letters", C + b"5g\r\nhello\r\n0\r\n\r\n"),
            ("no CRLF after the data", C + b"5\r\nhello0\r\n\r\n"),
            ("two bytes for CRLF after the data", C + b"5\r\nhelloXX0\r\n\r\n"),
            ("LF after the data", C + b"5\r\nhello\n0\r\n\r\n"),
            ("LF after the last chunk", C + b"5\r\nhello\r\n0\n\r\n"),
            ("LF at the end", C + b"5\r\nhello\r\n0\r\n\n"),
            ("extension of 100 kB", C + b"5;a=" + b"b" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"),
            ("trailers of 100 kB", C + b"0\r\nX: " + b"b" * 100_000 + b"\r\n\r\n"),
            ("NUL in an extension", C + b"5;a=\0\r\nhello\r\n0\r\n\r\n"),
            ("a trailer without a colon", C + b"0\r\nnothing\r\n\r\n"),
            ("a folded trailer", C + b"0\r\nX: a\r\n b\r\n\r\n"),
        ],
    ),
    forwarded(
        8, "5 ;a=b", C + b"5 ;a=b\r\nhello\r\n0;c\r\n\r\n",
        Arrived(b"POST / HTTP/1.1", b"5\r\nhello\r\n0\r\n\r\n"),
    ),
    forwarded(
        8, "00005", C + b"00005\r\nhello\r\n000\r\n\r\n",
        Arrived(b"POST / HTTP/1.1", b"5\r\nhello\r\n0\r\n\r\n"),
    ),
    *(
        Case(
            9, name, C + b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n", (200,),
            (Arrived(b"POST / HTTP/1.1", b"5\r\nhello\r\n0\r\n\r\n"),), closes=False,
            never=(b"6.6.6.6", b"evil", b"Content-Length: 666"),
        )
        for name, line in (
            ("Content-Length", b"Content-Length: 666"), ("Host", b"Host: evil"), ("X-Forwarded-For", b"X-Forwarded-For: 6.6.6.6"),
            ("Transfer-Encoding", b"Transfer-Encoding: evil"), ("Connection", b"Connection: evil"), ("Cookie", b"Cookie: a=evil"),
            ("Authorization", b"Authorization: Basic evil"), ("Forwarded", b"Forwarded: for=6.6.6.6"),
        )
    ),
]  # fmt: skip

HEADS = [
    *refused(
        10,
        [
            ("space before the colon", P + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED),
            ("TAB before the colon", P + b"Content-Length\t: 5\r\n\r\nhello"),
            ("space within", P + b"Content Length: 5\r\n\r\nhello"),
            ("none", G + b": x\r\n\r\n"),
            ("no colon", G + b"nothing\r\n\r\n"),
            ("brackets", G + b"X[]: a\r\n\r\n"),
            ("beyond ASCII", G + b"\x85: a\r\n\r\n"),
            ("space before the first", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
            ("space before a later one", G + b" X: a\r\n\r\n"),
            ("quotes", G + b'"X": a\r\n\r\n'),
        ],
    ),
    forwarded(
        10, "Content_Length", P + b"Content_Length: 5\r\n\r\n",
        Arrived(b"POST / HTTP/1.1", without=(b"content_length", b"content-length")), methods=("POST",),
    ),
    forwarded(
        10, "Transfer_Encoding beside a length", P + b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        Arrived(b"POST / HTTP/1.1", b"0\r\n\r\n", (b"Content-Length: 5",), (b"transfer_encoding", b"transfer-encoding")),
    ),
    *refused(
        11,
        [
            (f"\\x{byte:02x} in the {place}", before + bytes((byte,)) + after)
            for byte in (0, 1, 0x7F)
            for place, before, after in (
                ("method", b"GE", b"T / HTTP/1.1\r\nHost: a\r\n\r\n"), ("target", b"GET /", b" HTTP/1.1\r\nHost: a\r\n\r\n"),
                ("name", G + b"X", b": a\r\n\r\n"), ("value", G + b"X: a", b"\r\n\r\n"),
            )
        ],
    ),
    *refused(
        11,
        [("\\x08 in the version", b"GET / HTTP\x08/1.1\r\nHost: a\r\n\r\n"), ("VT for a space", b"GET\x0b/ HTTP/1.1\r\nHost: a\r\n\r\n")],
    ),
    *refused(
        12,
        [
            ("none", b"GET / HTTP/1.1\r\n\r\n"), ("empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
            ("twice", G + b"Host: a\r\n\r\n"), ("two that differ", G + b"Host: evil\r\n\r\n"),
            *(
                (text.decode(), b"GET / HTTP/1.1\r\nHost: " + text + b"\r\n\r\n")
                for text in (b"a b", b"a@b", b"4714::1:80", b"a,b", b"a\\b", b"a/b", b"a:b", b"a:99999", b"[::1", b"a?b", b"a#b", b"a%00b")
            ),
            ("two names in one target", b"GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("userinfo in the target", b"GET http://a@evil/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a target with a port that Host lacks", b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ],
    ),
    forwarded(
        12, "the same in target and Host", b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
        Arrived(b"GET /x HTTP/1.1", fields=(b"Host: a",)),
    ),
    *refused(
        13,
        [
            ("GET *", get(b"*")), ("no slash", get(b"x")), ("a fragment", get(b"/a#b")), ("//other/..;/", get(b"//other/..;/")),
            ("/a%2f..%2fadmin", get(b"/a%2f..%2fadmin")), ("/a%5c..%5cadmin", get(b"/a%5c..%5cadmin")), ("/%00", get(b"/%00")),
            ("/%zz", get(b"/%zz")), ("/%2", get(b"/%2")), ("a backslash", get(b"/a\\..\\admin")), ("two spaces", get(b"/ /x")),
            ("another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), ("beyond ASCII", get(b"/\xc0\xae\xc0\xae/admin")),
        ],
    ),
    # The site answers /admin itself with 403: rules must see the same path as a server that resolves it.
    *(
        Case(13, target.decode(), get(target), (403,), closes=False)
        for target in (
            b"/%2e%2e/admin", b"/x/../admin", b"/./admin", b"/%61dmin", b"/x/%2E%2e/admin/y", b"/x/y/../../admin",
            b"/x//../../admin",
        )
    ),
    forwarded(13, "/%7e%41%2f%3f", get(b"/%7e%41%2f%3f?%41"), Arrived(b"GET /~A%2F%3F?%41 HTTP/1.1")),
    forwarded(13, "/../../x", get(b"/../../x"), Arrived(b"GET /x HTTP/1.1")),
    *refused(
        14,
        [
            ("HTTP/0.9", b"GET /\r\n\r\n"), ("HTTP/1.10", get(b"/", b"HTTP/1.10")), ("ICE/1.0", get(b"/", b"ICE/1.0")),
            ("http/1.1", get(b"/", b"http/1.1")), ("HTTP/1", get(b"/", b"HTTP/1")), ("HTTP/1.1 x", get(b"/", b"HTTP/1.1 x")),
            ("RTSP/1.0", get(b"/", b"RTSP/1.0")), ("HTTP/+1.1", get(b"/", b"HTTP/+1.1")), ("none, with a Host", b"GET /\r\nHost: a\r\n\r\n"),
        ],
    ),
    *refused(
        14,
        [
            ("HTTP/2.0", get(b"/", b"HTTP/2.0")), ("HTTP/0.9 by name", get(b"/", b"HTTP/0.9")), ("HTTP/1.2", get(b"/", b"HTTP/1.2")),
            ("HTTP/3.0", get(b"/", b"HTTP/3.0")), ("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ],
        505,
    ),
    *refused(15, [("request line of 1 MB", get(b"/" + b"a" * 1_000_000))], 414),
    *refused(
        15,
        [
            ("5,000 headers", G + b"X: a\r\n" * 5000 + b"\r\n"), ("a header of 1 MB", G + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n"),
            ("a cookie of 64 kB", G + b"Cookie: " + b"a" * 65_000 + b"\r\n\r\n"), ("a name of 1 MB", G + b"a" * 1_000_000 + b": b\r\n\r\n"),
        ],
        431,
    ),
    *refused(15, [("a method of 1 MB", b"A" * 1_000_000 + b" / HTTP/1.1\r\nHost: a\r\n\r\n")]),
    *refused(15, [("a length beyond the limit", P + b"Content-Length: 20000000000\r\n\r\n")], 413),
]  # fmt: skip

HOPS = [
    Case(
        18, "names what is needed", G + b"Cookie: a=b\r\nConnection: close, X-Forwarded-For, Cookie, Host\r\n\r\n", (200,),
        (Arrived(fields=(b"Host: a", b"Cookie: a=b", b"X-Forwarded-For: 127.0.0.1"), without=(b"connection",)),),
    ),
    forwarded(
        18, "names the length", P + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
        Arrived(b"POST / HTTP/1.1", b"hello", (b"Content-Length: 5",), (b"connection",)),
    ),
    forwarded(
        18, "names the coding", P + b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Arrived(b"POST / HTTP/1.1", b"5\r\nhello\r\n0\r\n\r\n", (b"Transfer-Encoding: chunked",), (b"connection",)),
    ),
    forwarded(
        18, "names a field of the client", G + b"Connection: X-Hop\r\nX-Hop: evil\r\nX-End: 1\r\n\r\n",
        Arrived(fields=(b"X-End: 1",), without=(b"x-hop", b"connection")),
    ),
    forwarded(
        18, "hop-by-hop fields", G + b"TE: gzip\r\nKeep-Alive: 5\r\nProxy-Connection: evil\r\nProxy-Authorization: evil\r\n\r\n",
        Arrived(without=(b"te", b"keep-alive", b"proxy-connection", b"proxy-authorization")),
    ),
    answered(
        18, "the server names a field", Reply(OK + b"Connection: X-Hop\r\nX-Hop: evil\r\nContent-Length: 2\r\n\r\nok"),
        (200,), never=(b"X-Hop",),
    ),
    *(
        forwarded(
            19, name, G + lines + b"\r\n\r\n",
            Arrived(fields=(b"X-Forwarded-For: 127.0.0.1",), without=(b"x-real-ip", b"x_forwarded_for", b"x_real_ip")),
            never=(b"6.6.6.6",),
        )
        for name, lines in (
            ("X-Forwarded-For", b"X-Forwarded-For: 6.6.6.6"), ("X-Forwarded-For twice", b"X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 6.6.6.6"),
            ("X-Real-IP", b"X-Real-IP: 6.6.6.6"), ("Forwarded", b"Forwarded: for=6.6.6.6;by=6.6.6.6"),
            ("X_Forwarded_For", b"X_Forwarded_For: 6.6.6.6"), ("X-Forwarded-Host and -Port", b"X-Forwarded-Host: 6.6.6.6\r\nX-Forwarded-Port: 6.6.6.6"),
        )
    ),
    *refused(20, [("x 100-continue", P + b"Expect: x 100-continue\r\nContent-Length: 5\r\n\r\nhello"),
                  ("something else", P + b"Expect: other\r\nContent-Length: 5\r\n\r\nhello")], 417),
    Case(20, "100-continue, and no body ever", P + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", (408,)),
    Case(
        20, "200 without 100, and no body", P + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", (200,),
        reply=Reply(OK + b"Content-Length: 2\r\n\r\nok", early=True),
    ),
    Case(
        21, "300 kB, all sent", P + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000, (200,),
        None, Reply(OK + b"Content-Length: 2\r\n\r\nok", early=True),
    ),
    Case(
        21, "300 kB, a part sent", P + b"Content-Length: 300000\r\n\r\n" + b"x" * 1000, (200,),
        reply=Reply(OK + b"Content-Length: 2\r\n\r\nok", early=True),
    ),
    Case(
        21, "chunks, a part sent", C + b"5\r\nhello\r\n", (200,),
        reply=Reply(OK + b"Content-Length: 2\r\n\r\nok", early=True),
    ),
    forwarded(
        22, "h2c", G + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
        Arrived(without=(b"upgrade", b"http2-settings", b"connection")),
    ),
    forwarded(22, "websocket, not named in Connection", G + b"Upgrade: websocket\r\n\r\n", Arrived(without=(b"upgrade",))),
    forwarded(
        22, "websocket, answered 200", G + WEBSOCKET + b"\r\n", Arrived(),
        reply=Reply(OK + b"Content-Length: 2\r\n\r\nok"),
    ),
    answered(
        22, "unsolicited 101",
        Reply(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\nevil"),
    ),
    Case(
        22, "101 to another protocol", G + WEBSOCKET + b"\r\n", (502,), (Arrived(),),
        Reply(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\nevil"), closes=False,
    ),
]  # fmt: skip

ANSWERS = [
    *(
        answered(26, name, Reply(OK + rest, "reset" if name.startswith("reset") else "close"), (200,), closes=True, whole=False)
        for name, rest in (
            ("after a chunk", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            ("within a chunk", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"),
            ("before the last CRLF", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
            ("3 bytes of 100", b"Content-Length: 100\r\n\r\nabc"),
            ("a chunk size that is none", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
            ("no CRLF after a chunk", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n"),
            ("reset after a chunk", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            ("reset after 3 bytes of 100", b"Content-Length: 100\r\n\r\nabc"),
            ("reset of one that ends with the connection", b"\r\nabc"),
        )
    ),
    Case(
        26, "to an HTTP/1.0 client", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", (200,), (Arrived(),),
        Reply(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "close"), whole=False,
    ),
    *(
        answered(26, name, Reply(data, "close"))
        for name, data in (("within the head", OK + b"Content-Le"), ("within the status line", b"HTTP/1."))
    ),
    # A POST, which may not be sent again.
    Case(
        26, "before the first byte", P + b"Content-Length: 5\r\n\r\nhello", (502,), (Arrived(b"POST / HTTP/1.1", b"hello"),),
        Reply(b"", "close"), closes=False,
    ),
    Case(
        26, "reset before the first byte", P + b"Content-Length: 5\r\n\r\nhello", (502,), (Arrived(b"POST / HTTP/1.1", b"hello"),),
        Reply(b"", "reset"), closes=False,
    ),
    *(
        answered(27, name, Reply(data), (200,))
        for name, data in (
            ("two glued answers", OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 4\r\n\r\nevil"),
            ("bytes after the length", OK + b"Content-Length: 2\r\n\r\nokevil"),
            ("bytes after the last chunk", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil"),
        )
    ),
    answered(27, "204 with a body", Reply(b"HTTP/1.1 204 No Content\r\n\r\nevil"), (204,)),
    answered(27, "204 with a length and a body", Reply(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil"), (204,)),
    answered(27, "304 with a body", Reply(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil"), (304,)),
    Case(
        27, "HEAD with a body", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", (200,), (Arrived(b"HEAD / HTTP/1.1"),),
        Reply(OK + b"Content-Length: 4\r\n\r\nevil"), ("HEAD",), closes=False,
    ),
    *(
        answered(27, name, Reply(data))
        for name, data in (
            ("2,000 interim answers", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000 + OK + b"Content-Length: 0\r\n\r\n"),
            ("CR in a value", OK + b"X: a\rSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n"),
            ("LF in a value", OK + b"X: a\nSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n"),
            ("NUL in a value", OK + b"X: a\0evil\r\nContent-Length: 0\r\n\r\n"),
            ("two lengths", OK + b"Content-Length: 2\r\nContent-Length: 4\r\n\r\nevil"),
            ("length and coding", OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            ("length +2", OK + b"Content-Length: +2\r\n\r\nok"), ("length 2, 2", OK + b"Content-Length: 2, 2\r\n\r\nok"),
            ("coding xchunked", OK + b"Transfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            ("coding chunked, identity", OK + b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            ("coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("a folded line", OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
            ("space before a colon", OK + b"Content-Length : 0\r\n\r\n"), ("no colon", OK + b"evil\r\nContent-Length: 0\r\n\r\n"),
            ("a head of 1 MB", OK + b"X: " + b"a" * 1_000_000 + b"\r\nContent-Length: 0\r\n\r\n"),
            ("no HTTP", b"220 mail.example.com ESMTP\r\n\r\n"), ("HTTP/0.9", b"<p>evil</p>\r\n\r\n"),
            ("HTTP/2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), ("status 99", b"HTTP/1.1 99 x\r\nContent-Length: 0\r\n\r\n"),
            ("status 2000", b"HTTP/1.1 2000 x\r\nContent-Length: 0\r\n\r\n"), ("LFs only", b"HTTP/1.1 200 OK\nContent-Length: 4\n\nevil"),
        )
    ),
]  # fmt: skip

# The site redirects /go/… to /new/…, and /bad… to https://safe.example…
RULES = [
    *refused(29, [("NUL in a rule's path", get(b"/go/%00"))]),
    Case(
        29, "CRLF in a redirect", get(b"/go/%0d%0aSet-Cookie:x=1"), (302,), closes=False, never=(b"\nSet-Cookie",),
        seen=(b"\r\nLocation: /new/%0D%0ASet-Cookie:x=1\r\n",),
    ),
    Case(
        29, "a query in a redirect", get(b"/go/x?a=%0d%0aSet-Cookie:x=1"), (302,), closes=False, never=(b"\nSet-Cookie",),
        seen=(b"\r\nLocation: /new/x\r\n",),
    ),
    Case(29, "a redirect to another host", get(b"/go//evil"), (302,), closes=False, never=(), seen=(b"\r\nLocation: /new/evil\r\n",)),
]  # fmt: skip

CASES = [*FRAMING, *CHUNKS, *HEADS, *HOPS, *ANSWERS, *RULES]
