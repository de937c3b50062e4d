"""Tickets: without the key, none can be made or changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos.tickets import LENGTH, Tickets

KEY = bytes(range(32))
KINDS = st.sampled_from(["new", "live", "queued", "early"])
PARTS = st.tuples(KINDS, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))


@given(PARTS)
def test_what_was_written_is_read(parts: tuple[str, int, int, int]) -> None:
    tickets = Tickets(KEY)
    text = tickets.sealed(*parts)
    assert len(text) == LENGTH
    assert [tickets.opened(text) for _ in range(2)] == [parts, parts]  # and once more, when it is known


@given(PARTS, st.integers(0, LENGTH - 1), st.integers(0, 255))
def test_a_ticket_with_another_byte_is_none(parts: tuple[str, int, int, int], at: int, byte: int) -> None:
    tickets = Tickets(KEY)
    text = tickets.sealed(*parts)
    assert tickets.opened(text)
    forged = text[:at] + bytes([byte]) + text[at + 1 :]
    assert (tickets.opened(forged) is None) == (forged != text)


@given(PARTS, st.binary(min_size=16, max_size=64))
def test_a_ticket_of_another_key_is_none(parts: tuple[str, int, int, int], key: bytes) -> None:
    if key != KEY:
        assert Tickets(KEY).opened(Tickets(key).sealed(*parts)) is None


@given(st.binary(max_size=80))
def test_other_bytes_are_no_ticket(text: bytes) -> None:
    assert Tickets(KEY).opened(text) is None


def test_forgeries_do_not_become_known() -> None:
    tickets = Tickets(KEY)
    forged = Tickets(bytes(32)).sealed("live", 1, 2, 3)
    assert [tickets.opened(forged) for _ in range(3)] == [None] * 3


def test_short_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="16 to 64"):
        Tickets(bytes(15))
