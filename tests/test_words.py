"""Texts that people read are plain technical English: phrases and names that once puzzled readers do not come back."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("gateway", "loadagent", "qos", "bench", "conf", "docs", "tests")
SUFFIXES = {".md", ".py", ".pyx", ".pxd", ".pyi", ".yaml", ".conf", ".service", ".htaccess"}
FORMER_NAMES = ("bequeath", "courtesy", "deed", "errand", "estate", "heritage", "rehearsal", "tally")
"""Words that docs/glossary.md has replaced; also as a part of a name, or in the plural."""
RIDDLES = (
    "amiss",
    "as told",
    "asked twice",
    "at leisure",
    "be had",
    "broken into",
    "everybody",
    "for ever",
    "gone on with",
    "gone over to",
    "heed",
    "heeds",
    "in the air",
    "in vain",
    "its like",
    "lets in",
    "no home",
    "nobody asked",
    "nobody else",
    "nobody has",
    "nobody knows",
    "nobody waits",
    "none of ours",
    "of its own accord",
    "of late",
    "out of reach",
    "somebody",
    "speaks for",
    "thrown out",
    "to be had",
    "to no avail",
    "turned away",
    "walked around",
    "what becomes of",
    "what it may",
    "who has",
    "whoever",
    "whom",
    "worth nothing",
)
GAP = r"\s+(?:#\s+)?"
"""Between words, also where a comment goes on in the next line."""
NAMES = re.compile(rf"(?<![a-z])(?:{'|'.join(FORMER_NAMES)})s?(?![a-z])", re.IGNORECASE)
PHRASES = re.compile(rf"\b(?:{'|'.join(RIDDLES).replace(' ', GAP)})\b", re.IGNORECASE)


def texts(*rooms: str) -> Iterator[Path]:
    """The files in `rooms`, and those at the top, that people write."""
    for room in rooms:
        yield from (path for path in (ROOT / room).rglob("*") if path.suffix in SUFFIXES)
    yield from [ROOT / "Makefile", *ROOT.glob("*.md")]


def found(pattern: re.Pattern[str], paths: Iterable[Path]) -> list[str]:
    """Where the pattern matches: FILE:LINE: TEXT."""
    return [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {' '.join(match[0].split())}"
        for path in paths
        if path != Path(__file__)
        for text in [path.read_text()]
        for match in pattern.finditer(text)
    ]


def test_former_names_are_gone() -> None:
    assert found(NAMES, texts(*ROOMS)) == []


def test_no_riddles_are_left() -> None:
    assert found(PHRASES, texts(*(room for room in ROOMS if room != "tests"))) == []


NAMED: Final = re.compile(
    r"def test_\w*(?:(?:any|every|no|some)bod(?:y|ies)|whom|whoever|stranger|in_vain|_of_late\b|for_ever\b|thrown_out)\w*"
)


def test_names_of_tests_say_what_they_show() -> None:
    assert found(NAMED, (ROOT / "tests").rglob("test_*.py")) == []


@pytest.mark.parametrize(
    "text",
    ["nobody knows the load", "so that\n    # somebody reads", "What\n    # becomes of it", "Deed.TAKE", "the_deeds"],
)
def test_the_patterns_find_what_they_are_for(text: str) -> None:
    assert PHRASES.search(text) or NAMES.search(text)


@pytest.mark.parametrize("text", ["indeed", "user: nobody", "established", "gateway_frontend_turned_away_total"])
def test_the_patterns_pass_over_other_words(text: str) -> None:
    assert not PHRASES.search(text)
    assert not NAMES.search(text)
