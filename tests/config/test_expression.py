"""What expressions may say, and what is wrong with others, to the character."""

import pytest

from gateway.config.expression import parse
from gateway.config.problem import Fault
from tests.config.conftest import Load, Refuse, with_route


@pytest.mark.parametrize("text, message", [
    ("»path", "must be true or false, not a string"),
    ("»1", "must be true or false, not an int"),
    ("path »< 1", "a string and an int cannot be compared"),
    ("path == 'a' && »time", "expected a bool, not a timestamp"),
    ("»method || true", "expected a bool"),
    ("load('app') »+ 1 > 2.0", "a double + an int is not possible: make both double() or int()"),
    ("»sessions('app') > 3", "sessions takes 0 arguments, not 1"),
    ("site_load(»path) > 0.5", "the site must be a literal text"),
    ("»laod('app') > 0.5", "there is no function laod (did you mean load?)"),
    ("»pth == 'a'", "there is no pth (did you mean path?)"),
    ("path.»startswith('a')", "(did you mean startsWith?)"),
    ("load(»path) > 0.5", "the backend must be a literal text"),
    ("path.matches(»'(')", "not a regular expression"),
    ("path.matches(»method)", "the pattern must be a literal text"),
    ("in_network(client, »'10.0.0.1/8')", "is not a network"),
    ("time.getHours(»'Europe/Nowhere') > 1", "is not a zone"),
    ("time > timestamp(»'noon')", "is not a moment"),
    ("»1 in ['a']", "an int is never in a list of string"),
    ("'a' in »path", "in takes a list or a map"),
    ("['a', »1].size() > 0", "a list of string cannot hold an int"),
    ("headers »== 'a'", "cannot be compared"),
    ("path.»size > 3", "a string has no fields"),
    ("!»path", "expected a bool"),
    ("-»path == 1", "- takes a number"),
    ("true == (true ? 1 == 1 : »'a')", "the first is a bool, the second a string"),
    ("has(path)", "has takes a field"),
    ("path == »'a", "text without its closing quote"),
    ("path ==»", "unexpected end of the expression"),
    ("(path == 'a'»", "expected ), found end"),
    ("path == 'a' »path", "unexpected path"),
    ("path »& true", "unexpected &"),
    ("path == »'\\q'", "unknown escape \\q"),
    ("»startsWith('a')", "there is no function startsWith"),
    ("path.startsWith(»1)", "expected a string, not an int"),
    ("path.»startsWith()", "startsWith takes 2 arguments, not 1"),
    ("size(»1) > 2", "an int has no size"),
    ("»9223372036854775808 > 1", "an int has 64 bits"),
    ("(" * 70 + "true" + ")" * 70, "nested too deeply"),
    ("!" * 70 + "true", "nested too deeply"),
])  # fmt: skip
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(Fault) as caught:
        parse(text.replace("»", ""))
    assert message in str(caught.value)
    if "»" in text:
        assert caught.value.offset == text.index("»")


def test_places_in_the_file(refuse: Refuse, load_text: Load) -> None:
    refuse(with_route("{backend: app, match: {when: 'load(\"app\") > »load2'}}"), "there is no load2")
    refuse(with_route("{backend: app, match: {when: 'up(»\"ap\") > 1'}}"), "there is no backend ap (did you mean app?)")
    refuse(with_route("{backend: app, match: {when: »5}}"), "expected an expression, not the number 5")
    route = load_text(with_route("{backend: app, match: {when: 'up(\"app\") > 1'}}")).site.routes[0]
    assert not route.match.everything
