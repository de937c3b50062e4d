"""Values of expressions for a request."""

from typing import Any

import pytest

from gateway.config.expression import parse
from gateway.rules.expression import Unknown, evaluate
from gateway.rules.view import Assumed, View
from tests.rules.views import view


@pytest.fixture
def request_view() -> View:
    made = view(
        "PUT", "https://WWW.Example.com/shop/a%20b?lang=de&x=1&x=2&n=7",
        ["X-Limit: 12", "Accept: text/html", "Cookie: tier=gold; a=b"], client="192.0.2.77",
    )  # fmt: skip
    made.klass = "staff"
    made.user = "jürgen".encode()
    made.clock = lambda: 1_790_000_000.0  # 2026-09-21T14:13:20Z, a Monday
    made.resources = Assumed({"app": 0.5, "silent": None}, {"app": 2, "silent": 1}, 7, {"here": 0.25})
    return made


@pytest.mark.parametrize("text", [
    "scheme == 'https' && method == \"PUT\" && host == 'www.example.com'",
    "path == '/shop/a%20b' && uri.endsWith('n=7') && client == '192.0.2.77'",
    "user == 'jürgen' && user != ''",
    "class == 'staff' && class in ['a', 'staff'] && !('b' in ['a'])",
    "headers['x-limit'] == '12' && headers['X-LIMIT'] == headers.accept || int(headers['X-Limit']) == 12",
    "'accept' in headers && has(headers.accept) && !has(headers.nothing) && !('none' in cookies)",
    "cookies.tier == 'gold' && query.x == '1' && query['lang'] == 'de'",
    "load('app') == 0.5 && up('app') >= 2 && load('app') * 2.0 <= double('1') && up('silent') == 1 && sessions() == 7 && site_load('here') == 0.25 && !(site_load('there') >= 0.0 && false)",
    "path.startsWith('/shop') && path.contains('a%20') && path.matches('^/s[a-z]+/') && path.size() == size('/shop/a%20b')",
    "in_network(client, '192.0.2.0/24') && !in_network(client, '10.0.0.0/8') && in_network('::ffff:10.1.1.1', '10.0.0.0/8')",
    "time > timestamp('2026-09-21T14:00:00Z') && time < timestamp('2026-09-21T16:14:00+02:00')",
    "time.getHours() == 14 && time.getHours('Europe/Berlin') == 16 && time.getDayOfWeek() == 1 && time.getMinutes() == 13",
    "time.getFullYear() == 2026 && time.getMonth() == 8 && time.getDate() == 21 && time.getDayOfMonth() == 20",
    "1 + 2 * 3 - 4 / 2 == 5 && 7 % 3 == 1 && -7 / 2 == -3 && -7 % 3 == -1 && 7.0 / 2.0 == 3.5 && 0x10 == 16",
    "'a' + 'b' == 'ab' && 'a' < 'b' && 1 < 1.5 && 2 >= 2.0 && 1 != 2 && true != false && !(1 > 2 == true)",
    "(up('app') > 1 ? 'x' : 'y') == 'x' && ['a', 'b'][1] == 'b' && ['a'].size() == 1 && string(5) == '5' && string(true) == 'true'",
    "'ÀbC'.lowerAscii() == 'Àbc' && r'a\\b' == 'a\\\\b' && '\\x41\\u00e9' == 'Aé' // a comment",
    # A side that decides makes up for one without a value.
    "true || headers.nothing == 'a'", "headers.nothing == 'a' || true", "!(false && load('silent') > 0.5)",
    "!(load('silent') > 0.5 && false)", "has(headers.nothing) ? headers.nothing == 'a' : true",
])  # fmt: skip
def test_true(request_view: View, text: str) -> None:
    assert evaluate(parse(text), request_view) is True


def test_some_are_false_for_all_that(request_view: View) -> None:
    for text in (
        "method == 'GET'",
        "'b' in ['a']",
        "1 > 2",
        "cookies.tier != 'gold'",
        "up('app') > 2",
        "path.matches('^x')",
    ):
        assert evaluate(parse(text), request_view) is False


@pytest.mark.parametrize("text, why", [
    ("headers.nothing == 'a'", "there is no nothing"), ("load('silent') > 0.5", "the load of silent is unknown"),
    ("1 / 0 == 1", "division by zero"), ("1 % 0 == 1", "division by zero"), ("1.0 / 0.0 > 1.0", "division by zero"),
    ("int('x') == 1", "x is not an int"), ("double('') > 1.0", "is not a double"), ("['a'][1] == 'a'", "there is no item 1"),
    ("in_network('x', '10.0.0.0/8')", "x is not an address"), ("9223372036854775807 + 1 > 0", "more than 64 bits"),
    ("true && headers.nothing == 'a'", "there is no nothing"),
])  # fmt: skip
def test_without_a_value(request_view: View, text: str, why: str) -> None:
    with pytest.raises(Unknown, match=why):
        evaluate(parse(text), request_view)


def test_a_condition_without_a_value_does_not_hold() -> None:
    from tests.rules.test_conditions import holds  # noqa: PLC0415

    match: dict[str, Any] = {"when": "int(query.n) > 5"}
    assert holds(match, view(url="http://a/?n=6"))
    assert not holds(match, view(url="http://a/?n=x"))
    assert not holds(match, view(url="http://a/"))
