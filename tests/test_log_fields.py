"""How a field of the access log is written: many bytes at a step, and the same as one byte at a time."""

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from gateway.proxy.log import AccessLog, put_field

Written = Callable[[str, bytes | int], bytes]
LENGTHS = (*range(70), 127, 128, 129, 255, 256, 257)
FIELD_MAX = 4096
SECOND = 1_000_000_000


@pytest.fixture(params=["json", "combined"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def written(form: str) -> Iterator[Written]:
    """What a log of the form writes for one field, with text of ours on both sides that has to stay."""
    reader, fd = os.pipe()
    with closing(asyncio.new_event_loop()) as loop, closing(AccessLog(loop, fd, form, [("", None)])) as log:

        def write(kind: str, value: bytes | int) -> bytes:
            put_field(log, "known", b"<<")
            put_field(log, kind, value)
            put_field(log, "known", b">>")
            log.flush()
            found = os.read(reader, 65536)
            assert found.startswith(b"<<")
            assert found.endswith(b">>")
            return found[2:-2]

        yield write
    os.close(reader)
    os.close(fd)


def escaped(text: bytes, form: str) -> bytes:
    """A text one byte at a time."""
    if not text and form == "combined":
        return b"-"
    code = "\\u%04x" if form == "json" else "\\x%02x"

    def one(byte: int) -> str:
        if byte in b'"\\':
            return "\\" + chr(byte)
        return chr(byte) if 32 <= byte < 127 else code % byte

    return "".join(map(one, text[:FIELD_MAX])).encode() + (b"..." if len(text) > FIELD_MAX else b"")


def visible(length: int) -> bytes:
    """A text in which no two bytes near each other are the same."""
    return bytes(97 + i % 23 for i in range(length))


def test_a_plain_text_of_any_length(written: Written, form: str) -> None:
    for length in LENGTHS:
        text = visible(length)
        assert written("text", text) == escaped(text, form)
        assert written("known", text) == text


def test_any_byte_at_any_place(written: Written, form: str) -> None:
    for length in (*range(1, 36), 47, 48, 49):
        for at in range(length):
            for byte in (0, 9, 31, 32, 33, 34, 91, 92, 93, 126, 127, 128, 160, 255):
                text = bytearray(visible(length))
                text[at] = byte
                assert written("text", bytes(text)) == escaped(bytes(text), form), (length, at, byte)


def test_every_byte(written: Written, form: str) -> None:
    for length in (1, 3, 7, 15, 16, 33):
        for byte in range(256):
            text = bytes([byte]) * length
            assert written("text", text) == escaped(text, form)


def test_a_long_text_is_cut(written: Written, form: str) -> None:
    for length in range(FIELD_MAX - 2, FIELD_MAX + 20):
        for text in (visible(length), visible(length - 1) + b"\xff", b"\xff" * length):
            assert written("text", text) == escaped(text, form)
        # The byte that has to be escaped is the last that is shown, and the first that is not.
        for at in (FIELD_MAX - 1, FIELD_MAX):
            text = visible(at) + b'"' + visible(30)
            assert written("text", text) == escaped(text, form)


def test_numbers_of_any_length(written: Written) -> None:
    edges = {10**power + less for power in range(19) for less in (-1, 0, 1)}
    for number in sorted({*range(1100), *edges, *(123456789012345678 // 10**power for power in range(18)), 2**63 - 1}):
        assert written("number", number) == b"%d" % number
    assert written("number", -1) == b"0"


def test_milliseconds(written: Written) -> None:
    for us in (0, 1, 9, 10, 99, 100, 999, 1000, 1001, 1099, 9999, 10_000, 123_456, 999_999, 1_000_000, 86_400_000_001):
        for ns in (0, 1, 999):
            assert written("millis", us * 1000 + ns) == b"%d.%03d" % divmod(us, 1000)
    assert written("millis", -5) == b"0.000"


def test_times(written: Written, form: str) -> None:
    """The stamp of a second is kept: times forth and back, in the same second and in others."""
    start = 1_700_000_000
    for second in (start, start, start + 1, start, start + 60, start - 1, 951_782_399, 951_782_400):
        for ns in (0, 999_999, 1_000_000, 9_999_999, 10_000_000, 500_500_500, 998_999_999, 999_999_999):
            if form == "combined":
                wanted = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second))
            else:
                wanted = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)) + f".{ns // 1_000_000:03d}Z"
            assert written("time", second * SECOND + ns) == wanted.encode()


def test_a_time_has_one_length(written: Written, form: str) -> None:
    found = written("time", time.time_ns())
    assert re.fullmatch(
        rb"\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000" if form == "combined" else rb"[\d-]{10}T[\d:]{8}\.\d{3}Z", found
    )
