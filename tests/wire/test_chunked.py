"""The chunked coding: strict, the same wherever the bytes are split, and written anew."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.chunked import Decoder, encode


def decode(data: bytes, *cuts: int) -> tuple[str, bytes]:
    """Feed the data in pieces; (state, what was decoded)."""
    decoder = Decoder()
    found = b""
    start = 0
    for end in (*cuts, len(data)):
        found += decoder.feed(data[start:end])
        start = end
        if decoder.state != "more":
            break
    return decoder.state, found


GOOD = b"5;a=b\r\nhello\r\n6 ;x\r\n world\r\n0\r\nTrailer: x\r\n\r\n"

BAD = [
    b"5\r\r;a\r\nhello", b"5;a\nhello", b"0x5\r\nhello", b"5_0\r\nhello", b"-1\r\n", b"+5\r\nhello", b"fffffffffffffffff\r\n",
    b" 5\r\nhello", b"5 \r\nhello", b"5\nhello", b"\r\n", b";a\r\n", b"5\r\nhelloX", b"5\r\nhello\rX", b"5\r\nhello\n",
    b"5;" + b"a" * 100_000 + b"\r\n", b"5;a\0\r\nhello", b"0\r\nTrailer\r\n\r\n", b"0\r\n Trailer: x\r\n\r\n",
    b"0\r\nA: b\nC: d\r\n\r\n", b"0\r\nA: \0\r\n\r\n", b"0\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"0\r\n\n",
]  # fmt: skip


def test_decodes_wherever_it_is_split() -> None:
    for cut in range(len(GOOD) + 1):
        assert decode(GOOD, cut) == ("end", b"hello world")
    assert decode(GOOD, *range(len(GOOD))) == ("end", b"hello world")


def test_every_shorter_body_is_incomplete() -> None:
    for end in range(len(GOOD)):
        assert decode(GOOD[:end])[0] == "more"


@pytest.mark.parametrize("data", BAD, ids=[repr(data[:24]) for data in BAD])
def test_refuses_wherever_it_is_split(data: bytes) -> None:
    assert decode(data)[0] == "bad"
    assert decode(data, *range(min(len(data), 200)))[0] == "bad"


def test_leaves_what_follows_the_end() -> None:
    decoder = Decoder()
    assert decoder.feed(b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n") == b"a"
    assert (decoder.state, decoder.rest) == ("end", b"GET / HTTP/1.1\r\n")


def test_trailers_are_handed_over_wherever_they_are_split():
    data = b"1\r\na\r\n0\r\nA: b\r\nLonger-Name:c d\r\n\r\nrest"
    for cuts in (*((cut,) for cut in range(len(data))), tuple(range(len(data)))):
        decoder = Decoder()
        start = 0
        for end in (*cuts, len(data)):
            if decoder.state == "more":
                decoder.feed(data[start:end])
            start = end
        assert (decoder.state, decoder.trailers) == ("end", b"A: b\r\nLonger-Name:c d\r\n")


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(0, 3000)))
def test_reads_what_it_writes(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(encode(piece) for piece in pieces if piece) + encode(b"")
    assert decode(data, *sorted(cut for cut in cuts if cut < len(data))) == ("end", b"".join(pieces))
