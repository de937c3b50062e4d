"""Patterns: two engines, one meaning, and no way to make either run for long."""

import re
import time

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.pattern import Pattern
from gateway.config.problem import Fault

PIECES = st.sampled_from(
    ["a", "b", ".", r"\d", r"\.", "[ab]", "[^a]", "(a|b)", "(?:ab|c)", "a?", "b{1,2}", "/", r"\b", r"\w"]
)
STARRED = st.sampled_from(["", "a*", "[ab]+", ".*", "(a+)", "(.*?)", "(?<x>b*)"])
TEXTS = st.text("ab1./c\n", max_size=12).map(str.encode)


@given(st.sampled_from(["", "^"]), st.lists(PIECES, max_size=4), STARRED, st.lists(PIECES, max_size=3), st.sampled_from(["", "$"]), TEXTS)  # fmt: skip
@settings(max_examples=500)
def test_both_engines_find_the_same(
    start: str, before: list[str], star: str, after: list[str], end: str, text: bytes
) -> None:
    source = start + "".join(before) + star + "".join(after) + end
    pattern = Pattern(source)
    match = pattern.search(text)
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    expected = re2.compile(source.encode(), options).search(text)
    assert (match and (match.span(), match.groups())) == (expected and (expected.span(), expected.groups()))
    if match:
        assert text.startswith(pattern.prefix)
        assert pattern.needle in text


@pytest.mark.parametrize(
    "source", ["(a+)+$", "(a|aa)+$", "^(.*)(.*)(.*)x$", "a*a*a*a*b", "^(?!b)a*$", "a{0,400}b$", "^(?:a?){40}a{40}b"]
)
def test_no_pattern_takes_long(source: str) -> None:
    pattern = Pattern(source)
    text = b"a" * 30_000 + b"!"
    started = time.process_time()
    assert pattern.search(text) is None
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("source", [r"(?=a*)b", r"^(?!a*)b*", r"^a(?<=(a+)+)b", r"^(?:(?!x).)*y"])
def test_looking_around_where_it_could_take_long_is_refused(source: str) -> None:
    with pytest.raises(Fault, match="could take too long"):
        Pattern(source)


def test_looking_ahead_where_it_cannot() -> None:
    pattern = Pattern(r"^(?:\.(?!well-known)|autotest|occ|issue|indie|db_|console).*")
    assert pattern.search(b".git/config")
    assert not pattern.search(b".well-known/acme")
    assert pattern.search(b"occ")
    assert Pattern(r"(?=x)y|(?<!a)b").search(b"cb")


@pytest.mark.parametrize("source, message", [
    ("(", "not a regular expression"), (r"(a)\1", "not a regular expression: invalid escape sequence"), ("a" * 5000, "at most 4096"),
    ("€", "outside Latin-1"), ("x{1001}", "not a regular expression: invalid repetition size"), ("[b-a]", "not a regular expression"),
])  # fmt: skip
def test_invalid_patterns(source: str, message: str) -> None:
    with pytest.raises(Fault, match=re.escape(message)):
        Pattern(source)


def test_the_literal_beginning() -> None:
    assert Pattern("^/item/([0-9]+)$").prefix == b"/item/"
    assert Pattern(r"^index\.php$").prefix == b"index.php"
    assert Pattern("^ab?c").prefix == b"a"
    assert Pattern("^a|b").prefix == b""
    assert (Pattern("/x/[0-9]").prefix, Pattern("/x/[0-9]").needle, Pattern("/x|y").needle) == (b"", b"/x/", b"")
    assert Pattern("^ab", ignore_case=True).prefix == b""
