"""The engine for patterns that look around or back: right, and bounded."""

import pytest

from gateway.config import backtracking
from gateway.config.backtracking import Backtracking, TooManySteps
from gateway.config.pattern import Pattern
from gateway.config.problem import Fault


@pytest.mark.parametrize("pattern, text, groups", [
    (r"^(/.+)/(.*)::\2$", b"/a/b::b", (b"/a/b::b", b"/a", b"b")),
    (r"(?!b)(x)(?:(y)|z)", b"..xz", (b"xz", b"x", None)),
    (r"(?<=\.)(css|js)$", b"/a.js", (b"js", b"js")),
    (r"([a-z]{2000,})", b"a" * 2000, (b"a" * 2000, b"a" * 2000)),
    (r"a(?=$)", b"a\n", None),
    (r"([a-z]{2000,})", b"a" * 1999, None),
])  # fmt: skip
def test_matches_of_patterns_that_re2_refuses(
    pattern: str, text: bytes, groups: tuple[bytes | None, ...] | None
) -> None:
    found = Backtracking(pattern.encode()).search(text)
    assert (found and tuple(found.group(i) for i in range(len(groups or ())))) == groups


def test_a_group_that_is_not_there() -> None:
    found = Backtracking(b"(a)(?=b)").search(b"ab")
    assert found is not None
    with pytest.raises(IndexError):
        found.group(2)


def test_case_and_line_breaks() -> None:
    assert Backtracking(b"A.B", ignore_case=True, dot_all=True).search(b"a\nb")
    assert not Backtracking(b"A.B", ignore_case=True).search(b"a\nb")


def test_a_search_ends() -> None:
    with pytest.raises(TooManySteps):
        Backtracking(rb"^(?:(a+)+)+(?=b)\1").search(b"a" * 3000 + b"c")


def test_only_patterns_that_re2_refuses_backtrack() -> None:
    for text in (r"^a.*b$", r"(a+)+$", "^/(css|js)/"):
        assert not isinstance(getattr(Pattern(text, backtrack=True).search, "__self__", None), Backtracking)
    assert isinstance(getattr(Pattern(r"(a)\1", backtrack=True).search, "__self__", None), Backtracking)
    with pytest.raises(Fault, match="not a regular expression"):
        Pattern(r"(a)\1")


def test_mistakes_are_reported_with_their_place() -> None:
    with pytest.raises(Fault, match=r"not a regular expression: missing closing parenthesis") as caught:
        Backtracking(b"(?=a(")
    assert caught.value.offset == 5


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtracking, "_library", None)
    with pytest.raises(Fault, match="install libpcre2-8-0"):
        Backtracking(b"(?=a)")
