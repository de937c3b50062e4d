"""A pattern of plain words is found where an engine for regular expressions finds it, and nowhere else."""

import re

import pytest
import re2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.config.pattern import Pattern
from gateway.rules.pattern_matcher import PatternMatcher

CHARS = "aAbZ1 /.-é"
WORDS = st.text(CHARS, max_size=4).map(re.escape)
GROUPS = st.lists(WORDS, min_size=1, max_size=3).map(lambda words: f"({'|'.join(words)})")
ALTERNATIVES = st.tuples(
    st.sampled_from(["", "^"]),
    st.lists(WORDS | GROUPS, max_size=3).map("".join),
    st.sampled_from(["", "$"]),
).map("".join)
PATTERNS = st.lists(ALTERNATIVES, min_size=1, max_size=3).map("|".join)
TEXTS = st.text(CHARS + "\n", max_size=12).map(lambda text: text.encode("latin-1"))


@pytest.mark.slow
@given(st.sampled_from(["", "(?i)"]), PATTERNS, TEXTS)
@settings(max_examples=500)
@example("", "b|", b"")
@example("(?i)", "^bot$", b"BoT")
@example("(?i)", "bot$", b"a RoBOT")
@example("", "^a$", b"a\n")
def test_words_are_found_as_an_engine_finds_them(fold: str, pattern: str, text: bytes) -> None:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    expected = re2.compile((fold + pattern).encode("latin-1"), options).search(text) is not None
    assert PatternMatcher(fold + pattern).finds(text) == expected
    assert (Pattern(fold + pattern).search(text) is not None) == expected


@pytest.mark.parametrize("pattern", ["bot", "(?i)bot|crawl", r"\.(css|js)$", "^/a/"])
def test_plain_words_need_no_engine(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matcher = PatternMatcher(pattern)
    assert matcher.pattern.words
    monkeypatch.setattr(matcher.pattern, "search", None)
    assert matcher.finds(b"/a/crawlbot.css")
    assert not matcher.finds(b"else")


def test_a_word_whose_bytes_stand_everywhere() -> None:
    assert PatternMatcher("bot").finds(b"b" * 100 + b"ot")
    assert not PatternMatcher("bot").finds(b"b" * 100 + b"o")
    assert not PatternMatcher("bot").finds(b"b" * 16)


def test_long_words_in_any_case_are_left_to_an_engine() -> None:
    """To compare as many letters at each place of a text would take long."""
    assert PatternMatcher("(?i)" + "a" * 32).pattern.words
    matcher = PatternMatcher("(?i)" + "a" * 33)
    assert not matcher.pattern.words
    assert matcher.finds(b"A" * 33)
    assert not matcher.finds(b"A" * 32)


def test_a_word_in_a_long_text() -> None:
    text = b"x" * 10_000
    for fold in ("", "(?i)"):
        for wanted, found in (("xx", True), ("xy", False), ("y$", False), ("x$", True), ("^xxxy", False)):
            assert PatternMatcher(fold + wanted).finds(text) is found
