"""Which patterns are nothing but words."""

import pytest

from gateway.config.words import Word, words


@pytest.mark.parametrize("pattern, expected", [
    ("bot", [Word(b"bot")]),
    ("bot|crawl|", [Word(b"bot"), Word(b"crawl"), Word(b"")]),
    ("^/api/", [Word(b"/api/", start=True)]),
    (r"\.(?:css|js)$", [Word(b".css", end=True), Word(b".js", end=True)]),
    ("^(a|b)(c|(d|e)f)$", [Word(text, start=True, end=True) for text in (b"ac", b"adf", b"aef", b"bc", b"bdf", b"bef")]),
    (r"a\.b\|c é", [Word("a.b|c é".encode("latin-1"))]),
    ("(^a|b$)", [Word(b"a", start=True), Word(b"b", end=True)]),
    ("", [Word(b"")]), ("^", [Word(b"", start=True)]), ("^$", [Word(b"", start=True, end=True)]),
])  # fmt: skip
def test_words(pattern: str, expected: list[Word]) -> None:
    assert list(words(pattern)) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "a.b",
            "a*",
            "a|b+",
            "ab?",
            "a{2}",
            "(ab)?",
            "[ab]",
            r"\d",
            r"\bbot",
            "(?P<x>a)",
            "(?<x>a)",
            "(?=a)",
            "(?i:a)",
        ),
        *("a^b", "a$b", "(a$)b", "$a", "^*", "".join("(a|b)" for _ in range(6)), "|".join("a" * 40)),
    ],
)
def test_other_patterns(pattern: str) -> None:
    assert words(pattern) == ()
