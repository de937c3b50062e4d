import httptools
import pytest

from gateway.wire.head import parse_response
from loadagent.http_get import MAX_HEAD_BYTES, AnswerReader, BadAnswer, ClosedEarly, read_url

OK = b"HTTP/1.1 200 OK\r\n"


def read(data: bytes, step: int, *, max_body: int = 100) -> tuple[int, bytes]:
    """What the reader makes of bytes that come in pieces, and of the end of the connection."""
    reader = AnswerReader(max_body)
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    reader.end()
    assert reader.done
    return reader.status, bytes(reader.body)


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    "data, body",
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", b"abc"),
        (OK + b"Content-Length: 3\r\nConnection: close\r\n\r\nabcdef", b"abc"),
        (OK + b"\r\nto the end", b"to the end"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n", b"abcd"),
        (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" + OK + b"\r\nabc", b"abc"),
        (OK + b"Content-Length: 200\r\n\r\n" + b"x" * 200, b"x" * 100),
    ],
)
def test_a_body_ends_where_its_head_says(data: bytes, body: bytes, step: int) -> None:
    assert read(data, step) == (200, body)


@pytest.mark.parametrize("status", [101, 204, 304])
def test_some_answers_have_no_body(status: int) -> None:
    head = b"HTTP/1.1 %d X\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nabc" % status
    assert read(head, len(head)) == (status, b"")


@pytest.mark.parametrize("max_body, done", [(0, True), (1, False)])
def test_the_head_is_enough_where_no_body_is_wanted(max_body: int, done: bool) -> None:  # noqa: FBT001
    reader = AnswerReader(max_body)
    reader.feed(OK + b"Content-Length: 3\r\n")
    assert (reader.status, reader.done) == (0, False)
    reader.feed(b"\r\n")
    assert (reader.status, reader.done) == (200, done)


@pytest.mark.parametrize(
    "data", [b"", OK, OK + b"Content-Length: 3\r\n\r\nab", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
)
def test_an_answer_that_breaks_off_is_none(data: bytes) -> None:
    with pytest.raises(ClosedEarly, match="without a response" if not data else "in the middle"):
        read(data, 5)


@pytest.mark.parametrize("step", [100, 1 << 20])
def test_a_head_is_bounded(step: int) -> None:
    for field in (b"X: " + b"y" * 60_000 + b"\r\n", b"X: y\r\n" * 9_000):
        assert read(OK + field + b"Content-Length: 0\r\n\r\n", step) == (200, b"")
    for field in (b"X: " + b"y" * MAX_HEAD_BYTES + b"\r\n", b"X: y\r\n" * 20_000):
        with pytest.raises(BadAnswer, match="longer than 65536 bytes"):
            read(OK + field + b"Content-Length: 0\r\n\r\n", step)


def test_interim_answers_count_as_head() -> None:
    with pytest.raises(BadAnswer, match="longer than 65536 bytes"):
        read(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 10_000, 1000)


FIELDS = (
    b"Content-Length: 3\r\nContent-Length: 3\r\n", b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"X : y\r\n",
    b"X: a\r\n b\r\n", b"X: a\n", b"Content-Length: +3\r\n", b"X: a\x00\r\n", b"X: a\x01\r\n", b"X y: a\r\n", b"X:\r\n", b"X: \xff\r\n",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Set-Cookie: a=" + b"x" * 8_200 + b"\r\n", b"X: a\tb\r\n",
)  # fmt: skip


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: repr(fields[:40]))
def test_what_traffic_takes_and_refuses_a_check_does(fields: bytes) -> None:
    head = OK + fields + b"\r\n"
    reader = AnswerReader(0)
    try:
        reader.feed(head)
    except BadAnswer:
        taken = False
    else:
        taken = reader.status == 200
    assert taken == (parse_response(head)[0] == 0)


@pytest.mark.parametrize(
    "url, place, head",
    [
        ("http://127.0.0.1:8080/load", ("127.0.0.1", 8080), "GET /load HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"),
        ("http://[::1]:8080/", ("::1", 8080), "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n"),
        ("http://a/%20x?b=%C3%BC#c", ("a", 80), "GET /%20x?b=%C3%BC HTTP/1.1\r\nHost: a\r\n"),
        (
            "http://b\u00fccher.example/\u00fc?\u00fc",
            ("xn--bcher-kva.example", 80),
            "GET /%C3%BC?%C3%BC HTTP/1.1\r\nHost: xn-",
        ),
        ("https://a", ("a", 443), "GET / HTTP/1.1\r\nHost: a\r\n"),
    ],
)
def test_urls(url: str, place: tuple[str, int], head: str) -> None:
    found, question = read_url(url, 1)
    assert found == place
    assert question.request.decode().startswith(head)
    assert (question.tls is not None) == url.startswith("https")
    assert b"Authorization" not in question.request


def test_a_name_and_a_password_in_a_url() -> None:
    _, question = read_url("http://me:p%40ss@a/", 1)
    assert b"\r\nHost: a\r\n" in question.request
    assert b"\r\nAuthorization: Basic bWU6cEBzcw==\r\n" in question.request


def test_a_url_without_sense() -> None:
    with pytest.raises(ValueError, match="Port out of range"):
        read_url("http://a:99999/", 1)


def test_it_is_read_by_httptools() -> None:
    reader = AnswerReader(0)
    assert isinstance(reader._parser, httptools.HttpResponseParser)
