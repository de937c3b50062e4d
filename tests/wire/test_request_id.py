"""Ids of requests: which are taken from a head, and that those made here are never the same twice."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.request_id import found, made

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"traceparent: 00-{TRACE_ID}-00f067aa0ba902b7-01"
WORD = (1 << 64) - 1


def head(*fields: str) -> bytes:
    return "".join(f"{field}\r\n" for field in ("GET / HTTP/1.1", "Host: a", *fields, "")).encode("latin-1")


@pytest.mark.parametrize("fields, wanted", [
    ([], None),
    (["X-Request-ID: a"], "a"),
    (["x-REQUEST-id:  f4-7/A~!  "], "f4-7/A~!"),
    (["X-Request-ID: " + "x" * 128], "x" * 128),
    (["X-Request-ID: " + "x" * 129], None),
    (["X-Request-ID:"], None),
    (["X-Request-ID: a", "X-Request-ID: a"], None),
    (["X_Request_ID: a"], None),
    (["X-Request-IDs: a"], None),
    (["X-Correlation-ID: a"], None),
    ([PARENT], TRACE_ID),
    ([PARENT.replace("traceparent", "TraceParent")], TRACE_ID),
    ([PARENT.replace("-01", "-ff")], TRACE_ID),
    ([PARENT, PARENT], None),
    ([PARENT, "X-Request-ID: a"], "a"),
    (["X-Request-ID: a", PARENT], "a"),
    (["X-Request-ID: a,b", PARENT], TRACE_ID),
    (["X-Request-ID: a", PARENT, "X-Request-ID: b"], TRACE_ID),
    ([PARENT.replace(" 00-", " 01-")], None),
    ([PARENT.replace(" 00-", " ff-")], None),
    ([PARENT.replace("00-4", "00_4")], None),
    ([PARENT.replace(TRACE_ID, "0" * 32)], None),
    ([PARENT.replace(TRACE_ID, TRACE_ID.upper())], None),
    ([PARENT.replace(TRACE_ID, "0" * 31 + "1")], "0" * 31 + "1"),
    ([PARENT.replace(TRACE_ID, "g" + "0" * 31)], None),
    ([PARENT.replace("00f067aa0ba902b7", "0" * 16)], None),
    ([PARENT.replace("00f067aa0ba902b7", "00F067aa0ba902b7")], None),
    ([PARENT.replace("b7-01", "b7_01")], None),
    ([PARENT.replace("-01", "-0g")], None),
    ([PARENT + "-00"], None),
    ([PARENT[:-1]], None),
    (["traceparent:"], None),
])  # fmt: skip
def test_ids_that_come(fields: list[str], wanted: str | None) -> None:
    assert found(head(*fields)) == (wanted.encode() if wanted is not None else None)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=140))
def test_an_id_is_safe_wherever_it_may_be_written(text: str) -> None:
    value = text.strip(" \t")
    taken = found(head(f"X-Request-ID: {text}"))
    if re.fullmatch("[!#$%&()*+./0-9:<=>?@A-Z\\[\\]^_`a-z{|}~-]{1,128}", value):
        assert taken == value.encode()
    else:
        assert taken is None


def mixed_back(text: bytes) -> tuple[int, int]:
    """The seed and the count that an id was made of."""
    low, high = (
        sum((int(chr(text[at + i]), 16) | int(chr(text[at + 8 + i]), 16) << 4) << (8 * i) for i in range(8))
        for at in (0, 16)
    )
    high ^= high >> 32
    seed = (high - low * 0x9E3779B97F4A7C15) & WORD
    low ^= (low >> 31) ^ (low >> 62)
    low = low * pow(0x94D049BB133111EB, -1, 1 << 64) & WORD
    low ^= (low >> 27) ^ (low >> 54)
    low = low * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & WORD
    low ^= (low >> 30) ^ (low >> 60)
    return seed, (low - seed) & WORD


@given(st.integers(0, WORD), st.integers(0, WORD))
def test_an_id_tells_the_pair_of_numbers_it_was_made_of_so_no_other_pair_makes_it(seed: int, count: int) -> None:
    ids = made(3, (seed, count))
    assert [mixed_back(text) for text in ids] == [(seed, (count + i) & WORD) for i in (1, 2, 3)]


@pytest.mark.slow
def test_ids_are_hexadecimal_and_look_random() -> None:
    ids = made(20_000, (0, 0))
    assert len(set(ids)) == 20_000
    assert all(re.fullmatch(b"[0-9a-f]{32}", text) for text in ids)
    # Each digit in each place about as often as the others: 1250 times, with a deviation of 34.
    for place in range(32):
        for digit in b"0123456789abcdef":
            assert 1000 < sum(text[place] == digit for text in ids) < 1500


def test_workers_begin_at_random() -> None:
    begun = [mixed_back(made(1)[0]) for _ in range(8)]
    assert len({seed for seed, _ in begun}) == len({count for _, count in begun}) == 8
