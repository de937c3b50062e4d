"""The mark of visitors from other sites: who can give it, for how long, and where it stands in a URL."""

import pytest

from gateway.rules.site_token import LIFETIME, SKEW, mark, sender, with_mark, without

KEY = b"0123456789abcdef"
NOW = 1_790_000_000.0


def test_a_mark_is_known_for_a_while() -> None:
    found = mark(KEY, "mel.bourne-1", NOW)
    for age in (-SKEW, 0, LIFETIME - 1):
        assert sender(KEY, found, NOW + age) == "mel.bourne-1"
    for age in (-SKEW - 2, LIFETIME + 2):
        assert sender(KEY, found, NOW + age) is None


def test_without_the_key_none_can_be_made() -> None:
    found = mark(KEY, "melbourne", NOW)
    assert sender(b"another key of some length", found, NOW) is None
    for at in range(len(found)):
        changed = found[:at] + (b"0" if found[at : at + 1] != b"0" else b"1") + found[at + 1 :]
        assert sender(KEY, changed, NOW) is None
    for nonsense in (b"", b".", b"..", found + b"0", b"a.b.c", b"\xff" * 40):
        assert sender(KEY, nonsense, NOW) is None


@pytest.mark.parametrize("uri", [b"/", b"/a/b", b"/a?b=c", b"/a?gwsite=short&b", b"/a?b=c&d=?e"])
def test_it_comes_out_as_it_went_in(uri: bytes) -> None:
    found = mark(KEY, "melbourne", NOW)
    marked = with_mark(uri, found)
    assert without(marked) == (uri, found)
    assert with_mark(marked, found) == marked
    assert without(uri) == (uri, None)


def test_it_is_found_anywhere_in_a_query() -> None:
    found = mark(KEY, "melbourne", NOW)
    assert without(b"/a?gwsite=" + found + b"&b=c") == (b"/a?b=c", found)
    assert without(b"/a?b=c&gwsite=" + found + b"&d") == (b"/a?b=c&d", found)
    assert without(b"/a?xgwsite=" + found) == (b"/a?xgwsite=" + found, None)
    assert without(b"/gwsite=" + found) == (b"/gwsite=" + found, None)
